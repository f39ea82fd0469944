"""The wire under attack: certificates, redirects, bodies without end; on a TLS server with its own CA."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import trustme

from sync.commerce.deadlines import UnusableCaBundle
from sync.commerce.retry import judge_fault
from sync.commerce.transport import BodyTooLarge, open_session, read_body
from sync.errors import SettingsError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/redirect":
            self._answer(302, b"", Location="/elsewhere")
        elif self.path == "/drip":
            self._drip()
        elif self.path == "/hang":
            time.sleep(3)
        elif self.path.startswith("/endless/"):
            self._send_without_end(int(self.path.rpartition("/")[2]))
        else:
            self._answer(200, b"{}")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def _send_without_end(self, status: int) -> None:
        """A gigabyte, unless the client hangs up; `sent` tells how much of it was taken."""
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        for _ in range(1 << 12):
            self.wfile.write(bytes(1 << 18))
            self.server.sent += 1 << 18  # type: ignore[attr-defined]

    def log_message(self, *arguments: object) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    seen: list[str]
    sent: int

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what these tests are about."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), _Handler)
    server.seen, server.sent = [], 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


def get(server: Server, session: requests.Session, path: str = "/") -> bytes:
    url = f"https://127.0.0.1:{server.server_address[1]}{path}"
    with session.get(url, allow_redirects=False, stream=True, timeout=(5, 5)) as answer:
        return read_body(answer, 1 << 20).content


def test_a_private_ca_is_trusted_when_it_is_named(server: Server, bundle: str) -> None:
    assert get(server, open_session("product-sync/test", ca_bundle=bundle)) == b"{}"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_nothing_else_makes_it_trusted(
    server: Server, bundle: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the variables that requests reads, nor an empty one."""
    for value in (bundle, "", "/no/such/file"):
        monkeypatch.setenv(name, value)
        with pytest.raises(requests.exceptions.SSLError):
            get(server, open_session("product-sync/test"))

    assert server.seen == []


def test_a_named_ca_is_the_only_one_whatever_the_environment_says(
    server: Server, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)

    with pytest.raises(requests.exceptions.SSLError):
        get(server, open_session("product-sync/test", ca_bundle=str(other)))


def test_a_body_that_drips_for_ever_ends(server: Server, bundle: str) -> None:
    """A byte every twentieth of a second: no silence is long enough for a socket's time-out."""
    session = open_session("product-sync/test", ca_bundle=bundle, longest_answer_s=0.5)
    began = time.monotonic()

    with pytest.raises(requests.ReadTimeout):
        get(server, session, "/drip")

    assert time.monotonic() - began < 2
    assert get(server, session) == b"{}"


def test_a_request_is_hung_up_soon_after_we_are_told_to_stop(server: Server, bundle: str) -> None:
    stop = threading.Event()
    session = open_session("product-sync/test", ca_bundle=bundle, stop=stop)
    stop.set()
    began = time.monotonic()

    with pytest.raises(requests.RequestException):
        get(server, session, "/hang")

    assert time.monotonic() - began < 2.9


def test_no_redirect_is_followed(server: Server, bundle: str) -> None:
    get(server, open_session("product-sync/test", ca_bundle=bundle), "/redirect")

    assert server.seen == ["/redirect"]


@pytest.mark.parametrize("status", [200, 301, 302, 303, 307, 308, 401, 429, 500])
def test_no_body_is_read_beyond_the_limit_whatever_its_status(
    server: Server, bundle: str, status: int
) -> None:
    """The limit is a megabyte; kernel buffers take some more."""
    with pytest.raises(BodyTooLarge):
        get(server, open_session("product-sync/test", ca_bundle=bundle), f"/endless/{status}")

    assert server.sent < 32 << 20


def test_a_ca_bundle_that_has_gone_is_named(server: Server, bundle: str) -> None:
    session = open_session("product-sync/test", ca_bundle=bundle)
    Path(bundle).unlink()

    with pytest.raises(UnusableCaBundle) as fault:
        get(server, session)

    verdict = judge_fault(fault.value, host="shop", setting="API_ENDPOINT", reached=True, patient=True)
    assert isinstance(verdict.error, SettingsError)
    assert "SYNC_CA_BUNDLE" in str(verdict.error)
