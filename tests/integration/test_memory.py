"""No answer costs much memory, whatever its status, its size and its coding."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from sync.sandbox import Sandbox
from tests.command import Shell

pytestmark = pytest.mark.slow

MOST_MB = 150
MB = 1 << 20
TOKEN = b'{"access_token":"a-token","token_type":"bearer","expires_in":86399}'
ENDLESS = b"x" * MB  # again and again, a gigabyte in all
_GZIP = zlib.compressobj(1, wbits=31)
_FIRST, _NEXT = (_GZIP.compress(b" " * MB) + _GZIP.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
SPACES = _FIRST + 499 * _NEXT  # 500 MB, so many that nobody reads to the end, which is missing
TINY_PAGE = b'{"items":[' + b"{}," * (10 * MB) + b'{}],"search_criteria":{},"total_count":9}'
TINY_ERROR = b'{"message":"a","x":[' + b"{}," * 340_000 + b"{}]}"
LONG_TOKEN = b'{"access_token":"' + b"a" * 1_000_000 + b'","expires_in":86399}'


@contextmanager
def peer(body: bytes, status: int, coding: str = "", *, is_ims: bool = False) -> Iterator[str]:
    """Answers everything so; a token is given unless it `is_ims`. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                self.answer()
            except OSError:  # hung up by a reader that has enough
                self.close_connection = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def answer(self) -> None:
            fine = "ims" in self.path and not is_ims
            self.send_response(200 if fine else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Location", "http://127.0.0.1:1/")
            if coding and not fine:
                self.send_header("Content-Encoding", coding)
            self.end_headers()
            for _ in range(1 if fine or body is not ENDLESS else 1_000):
                self.wfile.write(TOKEN if fine else body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def peak_mb(shell: Shell, *command: str, **settings: str) -> float:
    """The most memory that a command in an interpreter of its own held at a time."""
    peak = 0.0
    with shell.start_afresh(*command, **settings) as running:
        process: Any = running.process
        while process.poll() is None:
            peak = max(peak, high_water_mb(process.pid))
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
    return peak


def high_water_mb(pid: int | None) -> float:
    """The most memory that a process has held so far; 0 once it is gone."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return max((int(it.split()[1]) / 1024 for it in lines if it.startswith("VmHWM")), default=0.0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("body", "status", "coding", "is_ims"),
    [
        (ENDLESS, 200, "", False),
        (ENDLESS, 302, "", False),
        (ENDLESS, 500, "", False),
        (SPACES, 200, "gzip", False),
        (SPACES, 404, "gzip", False),
        (TINY_PAGE, 206, "", False),
        (TINY_ERROR, 500, "", False),
        (ENDLESS, 302, "", True),
        (SPACES, 200, "gzip", True),
        (LONG_TOKEN, 200, "", True),
    ],
    ids=[
        "endless",
        "endless redirect",
        "endless error",
        "bomb",
        "bomb as error",
        "tiny values",
        "tiny values as error",
        "IMS endless redirect",
        "IMS bomb",
        "IMS long token",
    ],
)
def test_no_answer_costs_much_memory(
    tmp_path: Path, body: bytes, status: int, coding: str, is_ims: bool
) -> None:
    with Sandbox(1) as tenant, peer(body, status, coding, is_ims=is_ims) as url:
        shell = Shell(tenant, tmp_path, {"SYNC_MAX_RETRY_TIME": "1s"})

        peak = peak_mb(shell, "backfill", API_ENDPOINT=f"{url}/rest", IMS_TOKEN_URL=f"{url}/ims/token/v3")

    assert 0 < peak < MOST_MB


def test_heavy_products_are_read_in_smaller_pages_within_it(tmp_path: Path) -> None:
    """300 of 100 kB each would be a page of 30 MB."""
    with Sandbox(300) as tenant:
        text: Any = {"custom_attributes": [{"attribute_code": "description", "value": "é" + "x, " * 33_000}]}
        for number in tenant.catalogue.ids():
            tenant.catalogue.edit(number, **text)
        shell = Shell(tenant, tmp_path)

        peak = peak_mb(shell, "backfill")
        counted = json.loads(shell.run("status", "--json").out)

    assert 0 < peak < MOST_MB
    assert counted["store_views"][0]["live"] == 300


def test_the_heaviest_products_are_copied_within_it_and_heavier_ones_are_rejected(tmp_path: Path) -> None:
    """Three of almost 1 MiB, in characters that take four bytes each in memory, and one of 9 MB."""
    with Sandbox(4) as tenant:

        def describe(letter: str) -> None:
            for number in tenant.catalogue.ids():
                text = letter * (9_000_000 if number > 3 else 1_030_000) + "\N{GRINNING FACE}"
                described: Any = {"custom_attributes": [{"attribute_code": "description", "value": text}]}
                tenant.catalogue.edit(number, **described)

        shell = Shell(tenant, tmp_path)
        describe("a")
        peaks = [peak_mb(shell, "backfill")]
        describe("b")
        peaks.append(peak_mb(shell, "run"))
        with peer(ENDLESS, 200) as receiver:
            post, secret = ("changes", "--webhook", receiver), "whsec_" + "s" * 32
            peaks.append(peak_mb(shell, *post, WEBHOOK_SECRET=secret))
            rest = shell.run(*post, WEBHOOK_SECRET=secret)
        counted = json.loads(shell.run("status", "--json").out)

    with sqlite3.connect(tmp_path / "products.db") as copy:
        reasons = copy.execute("SELECT reason FROM rejected_items WHERE resolved_at IS NULL").fetchall()
    assert max(peaks) < MOST_MB
    assert counted["store_views"][0]["live"] == 3
    assert "product-sync: 0 changes posted" in rest.err, rest
    assert len(reasons) == 1
    assert all("an answer of more than 1,048,576 bytes" in reason for (reason,) in reasons)


def test_passes_over_heavy_products_stay_within_it(tmp_path: Path) -> None:
    """Three of 3 MB, one of 1.5 in two bytes a character; changed once: their entries have twice that."""
    peaks = []
    with Sandbox(4) as tenant:
        shell = Shell(tenant, tmp_path)
        for letter, command in (("a", "backfill"), ("b", "run")):
            for number in tenant.catalogue.ids():
                text = letter * 3_000_000 if number < 4 else letter * 1_500_000 + "\N{EURO SIGN}"
                described: Any = {"custom_attributes": [{"attribute_code": "description", "value": text}]}
                tenant.catalogue.edit(number, **described)
            peaks.append(peak_mb(shell, command))
        peaks += [peak_mb(shell, command) for command in ("verify", "reconcile")]
        counted = json.loads(shell.run("status", "--json").out)

    assert max(peaks) < MOST_MB, peaks
    assert counted["store_views"][0]["live"] == 4


def test_whatever_reads_a_copy_of_heavy_products_stays_within_it(tmp_path: Path) -> None:
    """Eight of 4 MB each, changed once, so that an entry of the feed has 8 MB."""
    with Sandbox(8) as tenant:
        shell = Shell(tenant, tmp_path)
        for letter, command in (("a", "backfill"), ("b", "run")):
            for number in tenant.catalogue.ids():
                described: Any = {
                    "custom_attributes": [{"attribute_code": "description", "value": letter * 4_000_000}]
                }
                tenant.catalogue.edit(number, **described)
            assert shell.run(command).code == 0

        peaks = [peak_mb(shell, "db", "copy", f"sqlite:///{tmp_path}/other.db")]
        peaks += [peak_mb(shell, "export", str(tmp_path / name)) for name in ("a.csv", "a.jsonl")]
        with shell.start_afresh("serve", STATUS_BIND="127.0.0.1:0") as page:
            url = page.wait_for_words("http://").split()[-1].rstrip("/")
            for path in ("/changes", "/api/changes", f"/products/all/{tenant.catalogue.ids()[0]}"):
                assert requests.get(f"{url}{path}", timeout=30).ok
            peaks.append(high_water_mb(page.process.pid))
            page.end()

    assert max(peaks) < MOST_MB
