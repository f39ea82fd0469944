"""A file for node-exporter: counters go on from command to command, whatever is there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from sync.hooks.metrics import MetricsHook
from sync.hooks.run_log import RunLog
from sync.metrics import Metrics, PaceFigures, TenantsMetrics

ADD_ONE = """
import sys
from sync.metrics import Metrics
for _ in range(20):
    metrics = Metrics("1.2.3", process=False)
    metrics.requests.labels(sys.argv[2], "200").inc()
    metrics.write(sys.argv[1])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sync.prom"


def command(requests: int, kind: str = "incremental", version: str = "1.2.3") -> Metrics:
    """The metrics of one command that sent so many requests."""
    metrics_hook = MetricsHook(Metrics(version, process=False))
    for _ in range(requests):
        metrics_hook.hook(RunLog()).request_finished("/V1/products", "all", 200, 0.1, 10, 1)
    metrics_hook.metrics.run_finished.labels(kind, "succeeded").set(1e9 + requests)
    metrics_hook.metrics.watch_pace(lambda: PaceFigures(requests, 0, 1))
    metrics_hook.metrics.command_ended(kind, 0)
    return metrics_hook.metrics


def of_tenant(name: str, metrics: Metrics) -> TenantsMetrics:
    return TenantsMetrics("1.2.3", lambda: {name: metrics}, process=False)


def read(path: Path) -> dict[tuple[str, ...], float]:
    """By name and the labels' values, sorted."""
    return {
        (sample.name.removeprefix("product_sync_"), *sorted(sample.labels.values())): sample.value
        for family in parse(path.read_text())
        for sample in family.samples
    }


def test_two_runs_of_three_requests_count_six(path: Path) -> None:
    """Histograms too; a gauge is what the last one says."""
    seen = []
    for _ in range(2):
        command(3).write(str(path))
        seen.append(read(path))

    assert [it["requests_total", "/V1/products", "200"] for it in seen] == [3, 6]
    assert [it["response_bytes_total", "/V1/products"] for it in seen] == [30, 60]
    assert [it["request_duration_seconds_count", "/V1/products"] for it in seen] == [3, 6]
    assert [it["request_duration_seconds_bucket", "/V1/products", "0.1"] for it in seen] == [3, 6]
    assert [it["request_rate_limit_per_second",] for it in seen] == [3, 3]
    assert "_created" not in path.read_text()


def test_other_commands_keep_their_series(path: Path) -> None:
    command(1, "prices").write(str(path))
    command(2, "stock").write(str(path))

    found = read(path)
    assert found["requests_total", "/V1/products", "200"] == 3
    assert found["command_exit_code", "prices"] == found["command_exit_code", "stock"] == 0
    assert found["run_finished_timestamp_seconds", "prices", "succeeded"] == 1e9 + 1
    assert found["request_rate_limit_per_second",] == 2


def test_other_tenants_keep_their_series(path: Path) -> None:
    for name, count in (("eu", 1), ("us", 2), ("eu", 4)):
        of_tenant(name, command(count)).write(str(path))

    found = read(path)
    assert found["requests_total", "/V1/products", "200", "eu"] == 5
    assert found["requests_total", "/V1/products", "200", "us"] == 2
    assert found["request_rate_limit_per_second", "us"] == 2
    assert found["request_rate_limit_per_second", "eu"] == 4


def another_version(path: Path) -> None:
    command(3, version="1.2.2").write(str(path))


@pytest.mark.parametrize(
    "before",
    [
        lambda path: None,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\x00{{{ garbage"),
        lambda path: path.write_text("# TYPE a counter\na{b= 1\n"),
        lambda path: path.write_text('product_sync_requests_total{endpoint="/V1/products"} NaN\n'),
        another_version,
    ],
)
def test_what_cannot_be_continued_begins_anew(path: Path, before: Callable[[Path], object]) -> None:
    before(path)

    command(3).write(str(path))

    assert read(path)["requests_total", "/V1/products", "200"] == 3


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf"])
def test_a_value_that_no_counter_has_is_not_added_to(path: Path, value: str) -> None:
    command(3).write(str(path))
    path.write_text(
        path.read_text().replace(
            'code="200",endpoint="/V1/products"} 3.0', f'code="200",endpoint="/V1/products"}} {value}'
        )
    )

    command(3).write(str(path))

    assert read(path)["requests_total", "/V1/products", "200"] == 3


def test_writers_at_the_same_time_lose_no_count(path: Path) -> None:
    """Four processes write twenty times each."""
    ours = [subprocess.Popen([sys.executable, "-c", ADD_ONE, str(path), f"e{n % 2}"]) for n in range(4)]
    assert [it.wait() for it in ours] == [0] * 4

    found = read(path)
    assert found["requests_total", "200", "e0"] == found["requests_total", "200", "e1"] == 40


def test_the_draft_of_a_process_that_was_killed_goes(path: Path) -> None:
    path.with_name(".sync.prom.0123abcd.part").write_bytes(b"half" * 100_000)

    command(3).write(str(path))

    assert [it.name for it in path.parent.iterdir()] == ["sync.prom"]
    assert read(path)["requests_total", "/V1/products", "200"] == 3


def test_permissions_stay(path: Path) -> None:
    path.touch(mode=0o640)

    command(3).write(str(path))

    assert path.stat().st_mode & 0o777 == 0o640


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "sync.prom", Path("/dev/null")):
        with pytest.raises(OSError, match=r"not a file|No such file"):
            command(1).write(str(path))

    assert Path("/dev/null").is_char_device()
