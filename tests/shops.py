"""Many simulated tenants in one process, and the file that leads to them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from sync.sandbox import Sandbox

SECRET = "sandbox-secret"


class Shops:
    """A tenant for each name, with a SQLite copy each; a context manager that serves while it is open.

    tables    what the file says of each, to be changed at will; `write` makes it so
    """

    def __init__(self, folder: Path, names: Sequence[str], products: int = 30) -> None:
        self.folder = folder
        self.file = folder / "tenants.toml"
        self.top = {"at_once": "4"}
        self.defaults: dict[str, str] = {"SYNC_RECONCILE_CRON": "off", "SYNC_REFERENCE_CRON": "off"}
        self.defaults |= {"SYNC_PRICES_INTERVAL": "off", "SYNC_STOCK_INTERVAL": "off"}
        self.tables: dict[str, dict[str, str]] = {}
        self._sandboxes = {name: Sandbox(products, seed=n) for n, name in enumerate(names)}
        self._serving = ExitStack()

    def __enter__(self) -> Self:
        (self.folder / "secret").write_text(SECRET)
        for name, sandbox in self._sandboxes.items():
            self._serving.enter_context(sandbox)
            table = sandbox.environment() | {"DATABASE_URL": f"sqlite:///{self.folder / name}.db"}
            del table["IMS_CLIENT_SECRET"]
            self.tables[name] = table | {"IMS_CLIENT_SECRET_FILE": "secret"}
        self.write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._serving.close()

    def __getitem__(self, name: str) -> Sandbox:
        return self._sandboxes[name]

    def write(self) -> None:
        """Write the file as it is by now."""
        parts = [*(f"{key} = {value}" for key, value in self.top.items()), _table("defaults", self.defaults)]
        self.file.write_text("\n".join([*parts, *(_table(*it) for it in self.tables.items())]))


def _table(name: str, entries: dict[str, str]) -> str:
    return "\n".join([f"[{name}]", *(f'{key} = "{value}"' for key, value in entries.items()), ""])
