"""HTTP to addresses that somebody else has named: connections go where `outbound` has checked.

The check is below the connection pool, where a name becomes a connection. So it costs nothing for a
connection that is used again, and no way of making a request avoids it. URL, Host, TLS's server
name and the check of the certificate keep the name.
"""

import contextlib
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anyio
import httpcore2
import httpx2

from amplifierd.common.outbound import PORTS, Address, HostNotFound, OutboundRules

# Addresses of one host that are tried.
TRIES = 6
# Seconds without a connection after which the next address is tried beside (RFC 8305).
_NEXT = 0.25


class PinnedTransport(httpx2.AsyncHTTPTransport):
    """A transport that connects only to addresses that its rules allow.

    `rules` is called for each new connection. A request raises AddressRefused for a host that is
    forbidden. Through a proxy, which resolves names itself, each request is checked before it is
    sent; a host that only the proxy knows is left to the proxy.
    """

    def __init__(
        self,
        rules: Callable[[], OutboundRules],
        *,
        verify: ssl.SSLContext,
        proxy: str | None = None,
        limits: httpx2.Limits | None = None,
    ) -> None:
        limits = limits or httpx2.Limits(max_connections=100, max_keepalive_connections=20)
        super().__init__(verify=verify, trust_env=False, proxy=proxy, limits=limits)
        self._rules = rules
        self._has_proxy = proxy is not None
        if not self._has_proxy:
            self._pool = httpcore2.AsyncConnectionPool(
                ssl_context=verify,
                max_connections=limits.max_connections,
                max_keepalive_connections=limits.max_keepalive_connections,
                keepalive_expiry=limits.keepalive_expiry,
                network_backend=PinnedBackend(rules),
            )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; raise AddressRefused for a host that is forbidden."""
        if self._has_proxy:
            url = request.url
            port = url.port or PORTS.get(url.scheme, 0)
            with contextlib.suppress(HostNotFound):
                await self._rules().resolve_async(url.raw_host.decode("ascii"), port)
        return await super().handle_async_request(request)


class PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections to addresses that were checked, and to no others."""

    def __init__(self, rules: Callable[[], OutboundRules]) -> None:
        self._rules = rules
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface is httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of a host that accepts.

        Raises AddressRefused, and httpcore2's ConnectError and ConnectTimeout.
        """
        try:
            with anyio.fail_after(timeout):
                addresses = await self._rules().resolve_async(host, port)
                return await self._connect_to_any(addresses[:TRIES], port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error
        except HostNotFound as error:
            raise httpcore2.ConnectError(str(error)) from None

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def _connect_to_any(
        self, addresses: Sequence[Address], port: int
    ) -> httpcore2.AsyncNetworkStream:
        if len(addresses) == 1:
            return await self._sockets.connect_tcp(str(addresses[0]), port)
        opened: list[httpcore2.AsyncNetworkStream] = []
        errors: list[Exception] = []

        async def connect(address: Address, failed: anyio.Event) -> None:
            try:
                stream = await self._sockets.connect_tcp(str(address), port)
            except httpcore2.ConnectError as error:
                errors.append(error)
                failed.set()
                return
            if opened:
                await stream.aclose()
            else:
                opened.append(stream)
                group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                for address in addresses:
                    failed = anyio.Event()
                    group.start_soon(connect, address, failed)
                    with anyio.move_on_after(_NEXT):
                        await failed.wait()
        except BaseException:
            # The time is up, or the request was cancelled, just when one was connected.
            with anyio.CancelScope(shield=True):
                for stream in opened:
                    await stream.aclose()
            raise
        if not opened:
            raise errors[-1]
        return opened[0]
