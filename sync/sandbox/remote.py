"""Edit a sandbox that runs in another process, through its control routes."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from sync.sandbox.control import PREFIX

TIMEOUT_S = 30.0


class Refused(Exception):
    """The sandbox does not do this edit; the text says why."""


def call(port: int, edit: str, **arguments: Any) -> Any:
    """Do one edit of the sandbox on this machine's `port`, and return its answer.

    Raises OSError when no sandbox answers there, Refused.
    """
    request = Request(f"http://127.0.0.1:{port}{PREFIX}{edit}", json.dumps(arguments).encode(), method="POST")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise Refused(error.read(1000).decode(errors="replace")) from None
    except ValueError:
        raise Refused("its answer is not JSON") from None
