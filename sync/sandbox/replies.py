"""Answers as values, and the bodies a tenant refuses with.

Texts and shapes observed on Magento 2.4.7 (placeholders are left for the reader to fill in);
gateway and IMS bodies as Adobe documents them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from sync.sandbox import phpjson

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=UTF-8"

Cut = Literal["reset", "truncate"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    cut            how it breaks off: `reset` kills the connection, `truncate` ends it, both half-way
    items_count    products or other items in a list, None for anything else
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: Cut | None = None
    items_count: int | None = None


class Refused(Exception):
    """The request is answered with `reply` instead of what it asked for."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_reply(status: int, value: Any) -> Reply:
    return Reply(status, phpjson.dumps(value))


def message(status: int, text: str, parameters: Any = None) -> Reply:
    """Commerce's own form of a refusal."""
    body = {"message": text} if parameters is None else {"message": text, "parameters": parameters}
    return json_reply(status, body)


def gateway(status: int, error_code: str, text: str) -> Reply:
    """The form of the gateway in front of a SaaS tenant."""
    return json_reply(status, {"error_code": error_code, "message": text})


def no_route() -> Reply:
    return message(404, "Request does not match any route.")


def no_product() -> Reply:
    return message(404, "The product that was requested doesn't exist. Verify the product and try again.")


def not_authorized(resource: str) -> Reply:
    """One body for a missing, wrong or expired token and for a missing permission alike."""
    return message(401, "The consumer isn't authorized to access %resources.", {"resources": resource})


def internal_error() -> Reply:
    report = f"Report ID: webapi-{secrets.token_hex(6)}"
    return message(500, f"Internal Error. Details are available in Magento log file. {report}")


def out_of_memory() -> Reply:
    """A fatal PHP error comes in a form of its own."""
    text = "Allowed memory size of 792723456 bytes exhausted (tried to allocate 20480 bytes)"
    return json_reply(500, {"messages": {"error": [{"code": 500, "message": text}]}})


def web_server_page(status: int, title: str) -> Reply:
    """The web server's own HTML: PHP is away, or never saw the request."""
    head = f"<head><title>{status} {title}</title></head>"
    body = f"<body>\n<center><h1>{status} {title}</h1></center>\n<hr><center>nginx</center>\n</body>"
    return Reply(status, f"<html>\n{head}\n{body}\n</html>\n".encode(), HTML)


def login_page() -> Reply:
    """What a captive portal or an expired proxy session answers in place of the tenant."""
    page = "<html><head><title>Sign in</title></head><body><form>Please sign in.</form></body></html>"
    return Reply(200, f"<!doctype html>\n{page}\n".encode(), HTML)


def error_page(status: int) -> Reply:
    """How the web server answers a status on its own."""
    return web_server_page(status, HTTPStatus(status).phrase)


def with_body(status: int, body: str | dict[str, Any], content_type: str) -> Reply:
    """A body of the caller's: an object as JSON, a text as it is."""
    return Reply(status, body.encode() if isinstance(body, str) else phpjson.dumps(body), content_type)
