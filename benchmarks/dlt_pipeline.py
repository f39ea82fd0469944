"""The same work as dlt does it: its rest_api source. Runs in a virtual environment of its own.

    python benchmarks/dlt_pipeline.py N DIRECTORY
    python benchmarks/dlt_pipeline.py N DIRECTORY --parallel

One pipeline, run anew each time, as a scheduler would: primary key `id`, disposition merge, nested lists in
tables of their own, no telemetry, no progress bar; the rest as dlt has it. With --parallel, all we found:

    four resources of an id range each, fetched in parallel, into one table
    two processes that normalize, files small enough to share among them
    CSV and COPY on PostgreSQL, SQLAlchemy's bulk inserts on SQLite
"""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

os.environ.update({"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"})
os.environ.update(
    {
        "EXTRACT__WORKERS": "4",
        "NORMALIZE__WORKERS": "2",
        "SOURCES__DATA_WRITER__BUFFER_MAX_ITEMS": "5000",
        "SOURCES__DATA_WRITER__FILE_MAX_ITEMS": "5000",
        "NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
    }
    if "--parallel" in sys.argv[3:]
    else {}
)

import dlt
import requests
from dlt.destinations import postgres, sqlalchemy
from dlt.sources.rest_api import rest_api_source

IS_PARALLEL = "--parallel" in sys.argv[3:]
STREAMS = 4 if IS_PARALLEL else 1
PAGE_SIZE = 300


def access_token() -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": os.environ["IMS_CLIENT_ID"],
        "client_secret": os.environ["IMS_CLIENT_SECRET"],
        "scope": "openid,AdobeID,commerce.accs",
    }
    answer = requests.post(os.environ["IMS_TOKEN_URL"], data=form, timeout=60)
    return str(answer.json()["access_token"])


def postgres_credentials(url: str) -> dict[str, Any]:
    """A URL in parts: dlt looks for a socket's folder not in the query but in the host, quoted."""
    parts = urlsplit(url)
    host = parts.hostname or quote(parse_qs(parts.query)["host"][0], safe="")
    return {
        "host": host,
        "port": parts.port or 5432,
        "database": parts.path.lstrip("/"),
        "username": parts.username,
        "password": parts.password or "none",
    }


def part(number: int, first: int, last: int) -> dict[str, Any]:
    """The resource that reads the ids above `first` up to `last`."""
    group = "searchCriteria[filterGroups]"
    return {
        "name": f"part_{number}",
        "table_name": "dlt_products",  # beside the tables of product-sync
        "primary_key": "id",
        "parallelized": IS_PARALLEL,
        "endpoint": {
            "path": "V1/products",
            "data_selector": "items",
            "paginator": {
                "type": "page_number",
                "base_page": 1,
                "page_param": "searchCriteria[currentPage]",
                "total_path": None,
                "stop_after_empty_page": True,
            },
            "params": {
                f"{group}[0][filters][0][field]": "entity_id",
                f"{group}[0][filters][0][conditionType]": "gt",
                f"{group}[0][filters][0][value]": str(first),
                f"{group}[1][filters][0][field]": "entity_id",
                f"{group}[1][filters][0][conditionType]": "lteq",
                f"{group}[1][filters][0][value]": str(last),
                "searchCriteria[sortOrders][0][field]": "entity_id",
                "searchCriteria[sortOrders][0][direction]": "ASC",
                "searchCriteria[pageSize]": str(PAGE_SIZE),
            },
        },
    }


def main(products: int, directory: str) -> None:
    url = os.environ["DATABASE_URL"]
    is_postgres = url.startswith("postgresql")
    share = -(-products // STREAMS)
    source = rest_api_source(
        {
            "client": {
                "base_url": os.environ["API_ENDPOINT"] + "/",
                "headers": {
                    "x-api-key": os.environ["IMS_CLIENT_ID"],
                    "x-gw-ims-org-id": os.environ["IMS_ORG_ID"],
                    "Store": "all",
                },
                "auth": {"type": "bearer", "token": access_token()},
            },
            "resource_defaults": {"write_disposition": "merge"},
            "resources": [part(n, n * share, (n + 1) * share) for n in range(STREAMS)],
        }
    )
    pipeline = dlt.pipeline(
        "products",
        pipelines_dir=directory,
        destination=postgres(postgres_credentials(url)) if is_postgres else sqlalchemy(url),
        dataset_name="main" if not is_postgres else "dlt",
    )
    pipeline.run(source, loader_file_format="csv" if is_postgres and IS_PARALLEL else None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
