"""Run the sandbox in the foreground and print the settings that lead there."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from typing import get_args

from sync.sandbox.families import Kind
from sync.sandbox.server import Sandbox

DEFAULT_PORT = 8330


def serve(
    products: int = 1_000,
    port: int = DEFAULT_PORT,
    *,
    store_views: Sequence[str] = ("default",),
    token_life: int = 86_399,
    latency: float = 0.0,
    sources: Sequence[str] = ("default",),
) -> None:
    """Serve until SIGINT or SIGTERM.

    port       0 takes any free one
    sources    codes of the places that stock lies in
    latency    seconds added to every answer but a token
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    with Sandbox(
        products, port=port, store_views=store_views, token_life=token_life, sources=sources
    ) as sandbox:
        if latency:
            for kind in get_args(Kind):
                if kind != "token":
                    sandbox.faults.slow(latency, kind=kind)
        settings = "\n".join(f"{name}={value}" for name, value in sandbox.environment().items())
        sys.stdout.write(f"# {products} products, ended by Ctrl-C. Settings for product-sync:\n{settings}\n")
        sys.stdout.flush()
        stop.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m sync.sandbox", description=__doc__)
    parser.add_argument("--products", type=int, default=1_000)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes any free one")
    parser.add_argument("--store-views", default="default", help="codes, separated by commas")
    parser.add_argument("--token-life", type=int, default=86_399, help="seconds")
    parser.add_argument(
        "--latency", type=float, default=0.0, help="seconds added to every answer but a token"
    )
    parser.add_argument("--sources", default="default", help="of stock: codes, separated by commas")
    chosen = parser.parse_args(arguments)
    serve(
        chosen.products,
        chosen.port,
        store_views=chosen.store_views.split(","),
        token_life=chosen.token_life,
        latency=chosen.latency,
        sources=chosen.sources.split(","),
    )
