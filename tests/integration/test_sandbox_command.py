"""The sandbox in a process of its own: started, steered over HTTP and ended by a signal."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests

Settings = dict[str, str]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "sync.sandbox",
        "--products",
        "50",
        "--port",
        "0",
        "--store-views",
        "en,de",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        yield running
        running.kill()


def printed_settings(process: subprocess.Popen[str]) -> Settings:
    assert process.stdout is not None
    assert process.stdout.readline().startswith("# 50 products")
    lines = [process.stdout.readline().strip() for _ in range(5)]
    return dict(line.split("=", 1) for line in lines)


def control(settings: Settings, name: str, body: object = None) -> Any:
    url = settings["API_ENDPOINT"].replace("/sandbox", f"/_sandbox/{name}")
    return requests.request("GET" if body is None else "POST", url, json=body, timeout=10).json()


def token(settings: Settings) -> requests.Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": settings["IMS_CLIENT_ID"],
        "client_secret": settings["IMS_CLIENT_SECRET"],
        "scope": "commerce.accs",
    }
    return requests.post(settings["IMS_TOKEN_URL"], data=form, timeout=10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_exit_code_0(process: subprocess.Popen[str], number: int) -> None:
    printed_settings(process)

    process.send_signal(number)

    assert process.wait(timeout=10) == 0


def test_it_prints_settings_that_work_and_obeys_its_control_routes(process: subprocess.Popen[str]) -> None:
    settings = printed_settings(process)
    headers = {
        "Authorization": f"Bearer {token(settings).json()['access_token']}",
        "x-api-key": settings["IMS_CLIENT_ID"],
        "x-gw-ims-org-id": settings["IMS_ORG_ID"],
    }

    def page() -> requests.Response:
        url = f"{settings['API_ENDPOINT']}/V1/products?searchCriteria[sortOrders][0][field]=entity_id"
        return requests.get(url, headers=headers, timeout=10)

    assert control(settings, "add", {"name": "Added"}) == 51
    control(settings, "delete", {"product_id": 50})
    control(settings, "edit", {"product_id": 49, "name": "Renamed"})
    names = {item["id"]: item["name"] for item in page().json()["items"][:2]}
    assert names == {51: "Added", 49: "Renamed"}

    control(settings, "faults", {"fault": "fail", "status": 503, "times": 1})
    assert [page().status_code for _ in range(2)] == [503, 200]
    control(settings, "faults", {"fault": "quota", "limit": 0})
    assert page().status_code == 429
    control(settings, "clear", {})
    assert page().status_code == 200

    stats = control(settings, "stats")
    assert stats == {"products": 50, "requests": {"token": 1, "page": 5}, "throttled": 1, "tokens": 1}
    assert [served["status"] for served in control(settings, "requests")] == [200, 200, 503, 200, 429, 200]


def test_a_wrong_control_request_is_explained(process: subprocess.Popen[str]) -> None:
    settings = printed_settings(process)

    assert "there is no product 999" in control(settings, "edit", {"product_id": 999})["message"]
    assert "unknown; there are" in control(settings, "faults", {"fault": "meteor"})["message"]
