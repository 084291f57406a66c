"""Fetching for tool-web: each connection goes to an address that was checked just before.

Redirects are followed here, each with the full check. Nothing is taken from the environment: no
proxy, no certificates, no passwords; and no cookie outlives its request.
"""

import functools
import ssl
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import httpx2

from profiles_app.sources.hosts import Address
from sessions_app.engine.tools.base import ToolError, shorten
from sessions_app.engine.tools.web.reach import Reach, host_of, parsed
from sessions_app.engine.wire.http import Handshake

REDIRECTS = 5
# Bytes of an answer that are read, and that are kept of it once unpacked.
LIMIT = 2_000_000
# Addresses of one host that are tried, one after the other.
TRIES = 4

HTML = frozenset({"text/html", "application/xhtml+xml"})
_GZIP = frozenset({"gzip", "x-gzip"})
# zlib's, for data with a gzip header.
_WBITS = 31
_HEADERS = {
    "User-Agent": "amplifierd",
    "Accept": "text/html, application/json, text/*;q=0.9",
    "Accept-Encoding": "gzip, identity",
}


@dataclass(frozen=True)
class Page:
    """An answer that is text of some kind."""

    # Where it came from, after all redirects.
    url: str
    # The media type, without parameters.
    kind: str
    # As the server names it; "" where it does not.
    charset: str
    body: bytes
    # The body is only the beginning.
    is_cut: bool


async def fetch(text: str, reach: Reach, connect_timeout: float) -> Page:
    """Return what is at a URL. Raises ToolError for what cannot, or must not, be fetched."""
    url = parsed(text)
    for _ in range(REDIRECTS + 1):
        addresses = await reach.addresses(url)
        try:
            async with _answer(url, addresses, connect_timeout) as response:
                if not response.has_redirect_location:
                    return await _page(url, response)
                url = parsed(response.headers["location"], url)
        except httpx2.HTTPError as error:
            raise ToolError(f"{host_of(url)} broke off: {shorten(str(error), 200)}") from None
    raise ToolError(f"The address leads elsewhere more than {REDIRECTS} times; it is given up.")


@asynccontextmanager
async def _answer(
    url: httpx2.URL, addresses: Sequence[Address], connect_timeout: float
) -> AsyncIterator[httpx2.Response]:
    """Give the head of the answer of the first address that can be connected to."""
    timeout = httpx2.Timeout(None, connect=connect_timeout)
    async with httpx2.AsyncClient(verify=tls(), trust_env=False, timeout=timeout) as client:
        response = await _first(client, url, addresses[:TRIES])
        try:
            yield response
        finally:
            await response.aclose()


async def _first(
    client: httpx2.AsyncClient, url: httpx2.URL, addresses: Sequence[Address]
) -> httpx2.Response:
    failed: Exception | None = None
    for address in addresses:
        try:
            return await client.send(_request(client, url, address), stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            failed = error
    reason = str(failed) or "it does not answer"
    raise ToolError(f"{host_of(url)} cannot be connected to: {reason}.")


def _request(client: httpx2.AsyncClient, url: httpx2.URL, address: Address) -> httpx2.Request:
    """Return a request that goes to the address, and is meant for the URL's host.

    The name is what TLS asks for and checks the certificate against.
    """
    host = host_of(url)
    named = url.copy_with(host=host)
    return client.build_request(
        "GET",
        url.copy_with(host=str(address)),
        headers={**_HEADERS, "Host": named.netloc.decode()},
        extensions={"sni_hostname": host, "trace": Handshake().trace},
    )


@functools.cache
def tls() -> ssl.SSLContext:
    """Return what TLS trusts: the machine's authorities, whatever the environment says."""
    return httpx2.create_ssl_context(trust_env=False)


async def _page(url: httpx2.URL, response: httpx2.Response) -> Page:
    if not response.is_success:
        raise ToolError(f"{url} answered with the status {response.status_code}.")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _is_text(kind):
        raise ToolError(f"{url} is {kind or 'of no kind that is told'}, not text; it is not read.")
    packed = await _beginning(response)
    body = _unpacked(packed[:LIMIT], response.headers.get("content-encoding", "").strip().lower())
    is_cut = len(packed) > LIMIT or len(body) > LIMIT
    return Page(str(url), kind, response.charset_encoding or "", body[:LIMIT], is_cut)


def _is_text(kind: str) -> bool:
    known = kind in HTML or kind == "application/json" or kind.endswith("+json")
    return known or kind.startswith("text/")


async def _beginning(response: httpx2.Response) -> bytes:
    """Return the bytes as they were sent: a little more than the limit where there are more."""
    read = bytearray()
    async with aclosing(response.aiter_raw()) as chunks:
        async for chunk in chunks:
            read += chunk
            if len(read) > LIMIT:
                break
    return bytes(read)


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Return the body without its compression, and not more than a byte above the limit."""
    if encoding in ("", "identity"):
        return body
    if encoding not in _GZIP:
        raise ToolError(f"The answer is compressed by {encoding!r}, which nobody asked for.")
    try:
        return zlib.decompressobj(_WBITS).decompress(body, LIMIT + 1)
    except zlib.error:
        raise ToolError("The answer is damaged: it cannot be unpacked.") from None
