"""The floor: the same pages downloaded and the same rows written, with nothing around it.

What a good engineer writes in an hour for one load of one tenant: a thread pool that downloads, one
thread that writes, a transaction per page, `executemany` on SQLite and COPY on PostgreSQL, the fastest
JSON parser there is. It is not handicapped, it only does less: no retries, no pacing, no checks of an
answer, no resuming, no comparing with what is there, no metrics; it believes that the ids are 1 to N
and every document is well formed. Tables and indexes are there already, as for product-sync. It sets of
the database what everybody sets; product-sync also has SQLite take over its log less often, and PostgreSQL
compress by lz4.

    python benchmarks/floor.py N                  load N products into DATABASE_URL
    python benchmarks/floor.py N --throw-away     only download

The environment is product-sync's: API_ENDPOINT, IMS_…, DATABASE_URL, SYNC_CONCURRENCY, SYNC_PAGE_SIZE.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
import psycopg
import requests

VIEW, RUN = "all", 1
STREAMS = int(os.environ.get("SYNC_CONCURRENCY", "4"))
PAGE_SIZE = int(os.environ.get("SYNC_PAGE_SIZE", "300"))
COLUMNS = {
    "products": "store_view, product_id, sku, name, type_id, attribute_set_id, status, visibility, price,"
    " weight, created_at, updated_at, content_hash, first_seen_at, changed_at, run_id, document",
    "product_attributes": "store_view, product_id, attribute_code, value",
    "product_categories": "store_view, product_id, category_id, position",
    "product_websites": "store_view, product_id, website_id",
    "product_media": "store_view, product_id, entry_id, media_type, label, position, disabled, types, file",
    "product_tier_prices": "store_view, product_id, ordinal, customer_group_id, qty, value,"
    " percentage_value, website_id",
    "product_links": "store_view, product_id, link_type, linked_product_sku, linked_product_type, position,"
    " qty",
    "product_variants": "store_view, product_id, child_product_id",
    "product_changes": "change_id, store_view, product_id, sku, kind, changed_at, run_id",
}
MEDIA = ("id", "media_type", "label", "position", "disabled")
Rows = dict[str, list[tuple[Any, ...]]]


class Answer(msgspec.Struct):
    items: list[msgspec.Raw]


def open_session() -> requests.Session:
    credentials = {name: os.environ[f"IMS_{name.upper()}"] for name in ("client_id", "client_secret")}
    form = {"grant_type": "client_credentials", "scope": "openid,AdobeID,commerce.accs", **credentials}
    token = requests.post(os.environ["IMS_TOKEN_URL"], data=form, timeout=60).json()["access_token"]
    session = requests.Session()
    session.trust_env = False  # else requests looks at each variable of the environment, for each page
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=STREAMS))
    session.headers.update(
        {
            "Authorization": f"Bearer {token}",
            "x-api-key": credentials["client_id"],
            "x-gw-ims-org-id": os.environ["IMS_ORG_ID"],
            "Store": VIEW,
        }
    )
    return session


def download(session: requests.Session, after: int) -> bytes:
    group = "searchCriteria[filterGroups]"
    params = {
        f"{group}[0][filters][0][field]": "entity_id",
        f"{group}[0][filters][0][conditionType]": "gt",
        f"{group}[0][filters][0][value]": str(after),
        "searchCriteria[sortOrders][0][field]": "entity_id",
        "searchCriteria[sortOrders][0][direction]": "ASC",
        "searchCriteria[pageSize]": str(PAGE_SIZE),
    }
    answer = session.get(os.environ["API_ENDPOINT"] + "/V1/products", params=params, timeout=120)
    answer.raise_for_status()
    return answer.content


def pages(products: int) -> Iterator[bytes]:
    """Bodies in order, downloaded by STREAMS threads that are a few pages ahead."""
    waiting: deque[Future[bytes]] = deque()
    with open_session() as session, ThreadPoolExecutor(STREAMS) as pool:
        for after in range(0, products, PAGE_SIZE):
            waiting.append(pool.submit(download, session, after))
            if len(waiting) > 2 * STREAMS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def add_rows(rows: Rows, raw: bytes, now: Any, utc: str) -> None:
    """Append the rows of one product; `utc` is what a time of Commerce lacks for this database."""
    item = msgspec.json.decode(raw)
    extension, key = item["extension_attributes"], (VIEW, item["id"])
    own = (item["sku"], item.get("name"), item["type_id"], item["attribute_set_id"], item["status"])
    numbers = (item["visibility"], item.get("price"), item.get("weight"))
    times = (item["created_at"] + utc, item["updated_at"] + utc)
    digest = sha256(raw).hexdigest()[:32]
    rows["products"].append((*key, *own, *numbers, *times, digest, now, now, RUN, raw.decode()))
    rows["product_changes"].append((item["id"], *key, item["sku"], "insert", now, RUN))
    rows["product_attributes"] += [
        (*key, a["attribute_code"], text(a["value"])) for a in item["custom_attributes"]
    ]
    rows["product_websites"] += [(*key, website) for website in extension["website_ids"]]
    rows["product_categories"] += [
        (*key, int(c["category_id"]), c["position"]) for c in extension.get("category_links", ())
    ]
    rows["product_media"] += [
        (
            *key,
            m["id"],
            m["media_type"],
            m["label"],
            m["position"],
            m["disabled"],
            text(m["types"]),
            m["file"],
        )
        for m in item["media_gallery_entries"]
    ]
    for n, tier in enumerate(item["tier_prices"]):
        more = tier["extension_attributes"]
        percentage = more.get("percentage_value")
        price = (tier["customer_group_id"], tier["qty"], tier["value"], percentage, more["website_id"])
        rows["product_tier_prices"].append((*key, n, *price))
    for link in item["product_links"]:
        qty = link.get("extension_attributes", {}).get("qty")
        other = (link["link_type"], link["linked_product_sku"], link["linked_product_type"], link["position"])
        rows["product_links"].append((*key, *other, qty))
    rows["product_variants"] += [(*key, child) for child in extension.get("configurable_product_links", ())]


def text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def rows_of(body: bytes, now: Any, utc: str) -> Rows:
    rows: Rows = {table: [] for table in COLUMNS}
    for raw in msgspec.json.decode(body, type=Answer).items:
        add_rows(rows, bytes(raw), now, utc)
    return rows


def load_sqlite(path: str, products: int) -> None:
    db = sqlite3.connect(path)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "cache_size=-20000"):
        db.execute(f"PRAGMA {pragma}")
    for body in pages(products):
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        with db:
            for table, rows in rows_of(body, now, ".000000").items():
                marks = ", ".join("?" * len(COLUMNS[table].split(",")))
                db.executemany(f"INSERT INTO {table} ({COLUMNS[table]}) VALUES ({marks})", rows)
    db.close()


def load_postgresql(url: str, products: int) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        for body in pages(products):
            with db.transaction(), db.cursor() as cursor:
                for table, rows in rows_of(body, datetime.now(UTC), "+00").items():
                    with cursor.copy(f"COPY {table} ({COLUMNS[table]}) FROM STDIN".encode()) as copy:
                        for row in rows:
                            copy.write_row(row)


def main(products: int, *, throw_away: bool) -> None:
    if throw_away:
        deque(pages(products), maxlen=0)
        return
    url = os.environ["DATABASE_URL"]
    if url.startswith("sqlite:///"):
        load_sqlite(url.removeprefix("sqlite:///"), products)
    else:
        load_postgresql(url.replace("postgresql+psycopg://", "postgresql://"), products)


if __name__ == "__main__":
    main(int(sys.argv[1]), throw_away="--throw-away" in sys.argv[2:])
