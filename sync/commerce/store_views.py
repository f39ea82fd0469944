"""The tenant's store views, by their codes."""

from __future__ import annotations

from typing import Final

import msgspec

from sync.commerce.client import Answer, Client
from sync.errors import AnswerUnreadable

PATH: Final = "/V1/store/storeViews"


class _StoreView(msgspec.Struct):
    id: int
    code: str
    website_id: int | None = None


_STORE_VIEWS = msgspec.json.Decoder(list[_StoreView])


def store_views(client: Client) -> list[str]:
    """Codes of all store views except the admin scope, whose code in requests is `all`.

    Raises AccessDenied when the credential lacks the resource Magento_Backend::store, which reading products
    does not need.
    """
    return [view.code for view in client.get(PATH, [], "all", _read) if view.id != 0]


def scopes(client: Client) -> dict[str, tuple[int, int | None]]:
    """Ids of the store views and of their websites, by code; raises what `store_views` raises."""
    views = client.get(PATH, [], "all", _read)
    return {view.code: (view.id, view.website_id) for view in views}


def _read(answer: Answer) -> list[_StoreView]:
    try:
        return _STORE_VIEWS.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise AnswerUnreadable("Commerce sent its store views in an unknown shape.") from None
