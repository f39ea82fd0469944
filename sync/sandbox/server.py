"""A simulated tenant on real HTTP, with IMS in front, for tests, benchmarks and the demo."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from sync.sandbox.access import Credentials, Gateway, Integration, TokenOffice
from sync.sandbox.catalogue import Catalogue
from sync.sandbox.companions import Companions
from sync.sandbox.control import PREFIX, Control, Editors
from sync.sandbox.faults import Faults
from sync.sandbox.generator import Generator
from sync.sandbox.journal import PATH as EVENTS
from sync.sandbox.journal import SimulatedJournal
from sync.sandbox.prices import SimulatedPrices
from sync.sandbox.reference import SimulatedReference
from sync.sandbox.replies import Reply
from sync.sandbox.served import Served
from sync.sandbox.stock import SimulatedStock
from sync.sandbox.tenant import PAAS, SAAS, TOKENS, Request, SimulatedTenant
from sync.sandbox.transport import Server


class Sandbox:
    """A tenant with `products` made-up products; a context manager that serves while it is open.

    seed             another seed, another catalogue; the same seed, the same bytes
    store_views      codes; the first is the default store view
    token_life       seconds an access token lives
    max_page_size    what the tenant refuses to exceed
    max_skus         the same for a list of SKUs; Magento has no limit for a list of strings
    clock            the tenant's: `Date`, stamps, token expiry, quotas. Generated stamps lie in March 2021
    gap              average distance of neighbouring ids
    sources          codes of the places that stock lies in
    """

    def __init__(
        self,
        products: int = 0,
        *,
        seed: int = 1,
        store_views: Sequence[str] = ("default",),
        port: int = 0,
        host: str = "127.0.0.1",
        token_life: int = 86_399,
        max_page_size: int = 300,
        max_skus: int | None = None,
        clock: Callable[[], float] = time.time,
        gap: int = 1,
        sources: Sequence[str] = ("default",),
    ) -> None:
        self.credentials = Credentials()
        self.requests: list[Served] = []
        self.tokens = TokenOffice(self.credentials, token_life, clock)
        self.faults = Faults(clock, self.tokens.revoke)
        self.catalogue = Catalogue(Generator(seed, gap, store_views), products, clock)
        self.reference = SimulatedReference(self.catalogue, store_views, clock)
        self.prices = SimulatedPrices(self.catalogue, store_views)
        self.stock = SimulatedStock(self.catalogue, sources, seed)
        self.journal = SimulatedJournal(self.credentials, self.tokens, clock, seed)
        self.catalogue.on_edit = self.journal.note
        self.integration = Integration(self.credentials, self.tokens, clock)
        self._clock = clock
        self._stopping = threading.Event()
        self._tenant = SimulatedTenant(
            self.catalogue,
            Companions(self.catalogue, self.reference, self.prices, self.stock, max_skus),
            self.faults,
            self.tokens,
            Gateway(self.credentials, self.tokens),
            self.integration,
            store_views,
            max_page_size,
            self._stopping.wait,
        )
        self._control = Control(self._editors(), self.faults, lambda: self.requests)
        self._address = (host, port)

    def _editors(self) -> Editors:
        return Editors(self.catalogue, self.prices, self.stock, self.reference)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen from now on; only then is there an `endpoint`."""
        self._server = Server(self._address, self._answer, self._clock)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and end every connection."""
        self._stopping.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()

    @property
    def host_url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def endpoint(self) -> str:
        """API_ENDPOINT in the SaaS form."""
        return self.host_url + SAAS

    @property
    def rest_endpoint(self) -> str:
        """API_ENDPOINT in the PaaS form."""
        return self.host_url + PAAS

    @property
    def token_url(self) -> str:
        return self.host_url + TOKENS

    @property
    def journal_url(self) -> str:
        """EVENTS_JOURNAL_URL."""
        return self.host_url + EVENTS

    def environment(self) -> dict[str, str]:
        """The settings that lead product-sync here, as a SaaS tenant."""
        return {
            "API_ENDPOINT": self.endpoint,
            "IMS_CLIENT_ID": self.credentials.client_id,
            "IMS_CLIENT_SECRET": self.credentials.client_secret,
            "IMS_ORG_ID": self.credentials.org_id,
            "IMS_TOKEN_URL": self.token_url,
        }

    def paas_environment(self, *, oauth: bool = False) -> dict[str, str]:
        """The settings that lead product-sync here as a PaaS tenant: Bearer token, or OAuth 1.0a."""
        if not oauth:
            return {
                "API_ENDPOINT": self.rest_endpoint,
                "COMMERCE_ACCESS_TOKEN": self.credentials.integration_token,
            }
        return {
            "API_ENDPOINT": self.rest_endpoint,
            "COMMERCE_CONSUMER_KEY": self.credentials.consumer_key,
            "COMMERCE_CONSUMER_SECRET": self.credentials.consumer_secret,
            "COMMERCE_ACCESS_TOKEN": self.credentials.access_token,
            "COMMERCE_ACCESS_TOKEN_SECRET": self.credentials.access_token_secret,
        }

    def _answer(self, request: Request) -> Reply:
        if request.path.startswith(PREFIX):
            return self._control.answer(request)
        if request.path == EVENTS:
            return self.journal.answer(request)
        at, began = self._clock(), time.perf_counter()
        call = self._tenant.understand(request)
        reply = self._tenant.answer(request, call)
        self.requests.append(
            Served(
                method=request.method,
                path=request.path,
                query=request.query,
                store_view=call.store_view,
                status=reply.status,
                at=at,
                seconds=time.perf_counter() - began,
                items_count=reply.items_count,
                after_id=call.criteria.after_id,
                page_size=call.criteria.page_size,
                kind=call.kind,
            )
        )
        return reply
