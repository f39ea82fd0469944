"""The measured inputs of docs/capacity.md: what each pass costs, and what a product takes on the disk.

python -m benchmarks.capacity --products 10000 --store-views 5 --postgres postgresql://root@127.0.0.1/postgres

Each pass is a process of its own against a sandbox; without --postgres, the PostgreSQL is that of a wheel.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.databases import PostgresDatabases, postgres
from benchmarks.processes import product_sync, run
from benchmarks.tenant import Tenant, tenant

# In the order in which a daemon runs them; behind the first of each, nothing has changed.
PASSES = ("reference", "run", "prices", "stock", "run", "prices", "stock", "reconcile", "reconcile")
SIZES = """
    SELECT relname, pg_total_relation_size(c.oid), pg_indexes_size(c.oid), pg_stat_get_live_tuples(c.oid)
    FROM pg_class AS c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC
"""


def measure(shop: Tenant, views: list[str], databases: PostgresDatabases, folder: Path) -> Iterator[str]:
    """The lines of the report."""
    url, metrics = databases.fresh(), folder / "sync.prom"
    settings = {**shop.settings, "DATABASE_URL": url, "STORE_VIEWS": ",".join(views), "LOG_LEVEL": "ERROR"}
    yield "| pass | requests | answers, MB | processor s | per product and store view | peak MB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    rows = shop.products * len(views)
    for name in PASSES:
        metrics.unlink(missing_ok=True)
        cost = run(product_sync(name, "--json", "--metrics-file", str(metrics)), settings, folder)
        sizes = re.findall(r"^product_sync_response_bytes_total.* (\S+)$", metrics.read_text(), re.MULTILINE)
        answers_mb = sum(map(float, sizes)) / 1e6
        yield (
            f"| {cost.summary['kind']} | {cost.summary['requests']} | {answers_mb:.1f} | {cost.cpu_s:.1f} "
            f"| {1000 * cost.cpu_s / rows:.2f} ms | {cost.peak_mb:.0f} |"
        )
    yield ""
    yield "| table | rows | bytes a product and store view | of these, indexes |"
    yield "| --- | --- | --- | --- |"
    yield from _sizes(url, rows)


def _sizes(url: str, rows: int) -> Iterator[str]:
    import psycopg  # only here: see processes.py

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        found = connection.execute(SIZES).fetchall()
    total, indexes_of_all = (sum(row[column] for row in found) for column in (1, 2))
    for table, size, indexes, count in [*found, ("all", total, indexes_of_all, rows)]:
        if size / rows >= 5:
            yield f"| {table} | {count:,} | {size / rows:,.0f} | {indexes / rows:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--store-views", type=int, default=5)
    parser.add_argument("--postgres", help="URL of a server whose user may create databases")
    chosen = parser.parse_args()
    views = ["default", *(f"view_{n}" for n in range(2, chosen.store_views + 1))]
    with (
        tempfile.TemporaryDirectory(prefix="product-sync-") as name,
        postgres(chosen.postgres, Path(name)) as databases,
        tenant(chosen.products, "--store-views", ",".join(views)) as shop,
    ):
        for line in measure(shop, views, databases, Path(name)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
