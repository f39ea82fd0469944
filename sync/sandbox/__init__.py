"""A simulated Commerce tenant on real HTTP: imports nothing else from `sync`.

>>> with Sandbox(products=25) as sandbox:
...     sandbox.catalogue.edit(3, name="Renamed")
...     sandbox.prices.set_base(7, 19.95)
...     sandbox.stock.set("default", "LN0000001", 2.5)
...     fern = sandbox.reference.add_option("color", "Fern", {"de": "Farn"})
...     sandbox.faults.fail(status=503, times=2)
...     settings = sandbox.environment()

Start with `server` (what there is), then `tenant` (how a request is answered), `faults` (what can go
wrong) and `control` (the same over HTTP). What stands beside products is in `companions`, over `reference`,
`prices` and `stock`.
"""

from sync.sandbox.catalogue import Catalogue
from sync.sandbox.command import serve
from sync.sandbox.faults import Faults
from sync.sandbox.served import Served
from sync.sandbox.server import Sandbox

__all__ = ["Catalogue", "Faults", "Sandbox", "Served", "serve"]
