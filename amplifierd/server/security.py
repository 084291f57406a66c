"""The outermost layer: it refuses requests by their host, origin and size.

Every page that a user opens in a browser can call a daemon on loopback, so the browser's own
headers decide: Host against DNS rebinding, Origin and Sec-Fetch-Site against foreign pages.
Exceptions behind this middleware, before a response has begun, are answered here as well.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.http.request import split_domain_port, validate_host

from amplifierd.common.asgi import Application, ConnectionScope, Message, Receive, Send
from amplifierd.common.errors import ServiceError
from amplifierd.common.problems import Problem, log_failure, page, problem_of, send_problem

Headers = dict[bytes, list[bytes]]

# Headers of every answer, unless the application sets them itself.
STRICT = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
# For the page of an error: it has the styles, the icon and the colour theme of the console.
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The header of answers that are only for their caller.
PRIVATE = (b"cache-control", b"no-store")
PUBLIC_PATHS = ("/static/",)
# Paths that are not pages: for programs and probes, and files of pages.
FOR_PROGRAMS = ("/api/", "/livez", "/readyz", "/static/", "/favicon.ico")
VARY_ORIGIN = (b"vary", b"Origin")
# Headers of an answer to a foreign page that may call.
CORS = [
    (b"access-control-allow-credentials", b"true"),
    (
        b"access-control-expose-headers",
        b"Link, X-Total-Count, X-Search-Incomplete, Retry-After, Idempotent-Replayed, "
        b"Preference-Applied, Journal-Epoch",
    ),
]
PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, Journal-Epoch, Last-Event-ID, Prefer",
    ),
    (b"access-control-max-age", b"600"),
]


class Refused(ServiceError):
    """The request is not accepted."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, code


class SecurityMiddleware:
    """An ASGI application around another one, which gets only acceptable requests.

    `prefix` is the path below which a proxy serves the daemon; the proxy may remove it or not.
    `hosts` are names without port, as in Django's ALLOWED_HOSTS; `origins` are those of foreign
    pages that may call; `body_limit` is in bytes; `hsts` is for how many seconds browsers must use
    TLS after they have once used it. Only with `behind_proxy` are the last proxy's headers about
    the client's address and scheme trusted.
    """

    def __init__(
        self,
        app: Application,
        *,
        hosts: Iterable[str],
        origins: Iterable[str],
        body_limit: int,
        behind_proxy: bool = False,
        hsts: int = 0,
        prefix: str = "",
    ) -> None:
        self.app = app
        self.hosts = list(hosts)
        self.origins = {origin.lower().rstrip("/").encode() for origin in origins}
        self.body_limit = body_limit
        self.behind_proxy = behind_proxy
        self.prefix = prefix
        self.hsts = (b"strict-transport-security", b"max-age=%d" % hsts) if hsts else None

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "no websockets here"})
        if scope["type"] != "http":
            return
        headers = collect(scope)
        scope = apply_forwarding(
            without_prefix(scope, self.prefix), headers, trusted=self.behind_proxy
        )
        # The origin of a foreign page, if it may call.
        origins = headers.get(b"origin", [])
        origin = origins[0] if len(origins) == 1 and origins[0] in self.origins else None
        # Headers that the answer has unless the application sets them itself.
        private = [] if scope["path"].startswith(PUBLIC_PATHS) else [PRIVATE]
        secure = [self.hsts] if self.hsts and scope["scheme"] == "https" else []
        defaults = [*STRICT, *private, *secure]
        # If answers differ by origin, a cache must know it, also for requests without one.
        cors = [VARY_ORIGIN] if self.origins else []
        if origin is not None:
            cors += [(b"access-control-allow-origin", origin), *CORS]
        answer = SecuredSend(send, cors, defaults)
        try:
            check_target(scope, headers, self.hosts, self.behind_proxy)
            if origin is None:
                check_origin(scope, headers, self.behind_proxy)
            elif scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                return await answer.preflight()
            for length in headers.get(b"content-length", []):
                if not length.isdigit():
                    raise Refused(400, "invalid", "Content-Length must be a whole number.")
                if int(length) > self.body_limit:
                    raise too_large_error(self.body_limit)
            await self.app(scope, LimitedReceive(receive, self.body_limit), answer)
        except Exception as error:
            # Once a response has begun, only cutting the connection is left; the server does it.
            if answer.began:
                raise
            problem = problem_of(error)
            log_failure(problem, error, f"{scope['method']} {scope['path']}")
            await send_error(answer, problem, scope, headers)


@dataclass(eq=False)
class SecuredSend:
    """`send` for the application: adds headers, and records whether the response has begun."""

    send: Send
    headers: list[tuple[bytes, bytes]]
    # Added if the application has not set them itself.
    defaults: list[tuple[bytes, bytes]]
    began: bool = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            headers = [*message.get("headers", ()), *self.headers]
            there = {name.lower() for name, _value in headers}
            headers += [(name, value) for name, value in self.defaults if name not in there]
            message = {**message, "headers": headers}
        await self.send(message)

    async def preflight(self) -> None:
        """Answer the preflight request of a browser for a page that may call."""
        await self({"type": "http.response.start", "status": 204, "headers": PREFLIGHT})
        await self({"type": "http.response.body", "body": b""})


@dataclass(eq=False)
class LimitedReceive:
    """`receive` for the application: refuses a body of more than `limit` bytes."""

    receive: Receive
    limit: int
    size: int = 0

    async def __call__(self) -> Message:
        """Return the next message; raise Refused once the limit is passed."""
        message = await self.receive()
        self.size += len(message.get("body", b""))
        if self.size > self.limit:
            raise too_large_error(self.limit)
        return message


def collect(scope: ConnectionScope) -> Headers:
    """Return the values of every header by its name in lower case."""
    headers: Headers = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    return headers


def apply_forwarding(scope: ConnectionScope, headers: Headers, *, trusted: bool) -> ConnectionScope:
    """Return the scope with the client's address and scheme from a trusted proxy's headers.

    Proxies append to these headers: the client may have sent everything before the last value.
    """
    changes: ConnectionScope = {
        "headers": [pair for pair in scope["headers"] if not is_forwarding(pair[0])]
    }
    if trusted:
        if address := address_in(last_word(headers, b"x-forwarded-for")):
            changes["client"] = (address, 0)
        if (scheme := last_word(headers, b"x-forwarded-proto").lower()) in ("http", "https"):
            changes["scheme"] = scheme
            changes["headers"].append((b"x-forwarded-proto", scheme.encode()))
    return {**scope, **changes}


def is_forwarding(name: bytes) -> bool:
    """Tell whether it is a header in which proxies describe the client."""
    return name.lower() == b"forwarded" or name.lower().startswith(b"x-forwarded-")


def last_word(headers: Headers, name: bytes) -> str:
    """Return the last value in the list of a header; empty if there is none."""
    values = headers.get(name, [b""])
    return values[-1].rpartition(b",")[2].strip().decode("latin-1")


def address_in(word: str) -> str:
    """Return the IP address in a proxy's header, without its port; empty if it is not one."""
    bracketed = word.startswith("[")
    name = word[1:].partition("]")[0] if bracketed else word
    if not bracketed and word.count(":") == 1:
        name = word.partition(":")[0]
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return ""


def without_prefix(scope: ConnectionScope, prefix: str) -> ConnectionScope:
    """Return the scope with its path as it would be without the prefix.

    `root_path` stays empty: the application knows the prefix from the settings.
    """
    path = scope["path"]
    if not prefix or not f"{path}/".startswith(f"{prefix}/"):
        return scope
    return {**scope, "path": path[len(prefix) :] or "/"}


async def send_error(
    send: Send, problem: Problem, scope: ConnectionScope, headers: Headers
) -> None:
    """Send a problem: as a page if the client is a browser that asks for one, else as JSON."""
    wants_page = b"text/html" in b",".join(headers.get(b"accept", []))
    if not wants_page or scope["path"].startswith(FOR_PROGRAMS):
        return await send_problem(send, problem)
    answer = page(problem)
    fields = {**answer.headers, "content-security-policy": PAGE_POLICY}
    pairs = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": pairs})
    await send({"type": "http.response.body", "body": answer.content})


def check_target(
    scope: ConnectionScope, headers: Headers, hosts: Sequence[str], behind_proxy: bool
) -> None:
    """Raise Refused for a wrong host or path, and if the scheme cannot be known."""
    named = headers.get(b"host", [])
    host = named[0].decode("latin-1") if len(named) == 1 else ""
    name, _port = split_domain_port(host)
    if not name or not validate_host(name, hosts):
        raise Refused(
            421,
            "host_not_allowed",
            f"Requests for the host {host!r} are not served; if it is a name of this"
            " daemon, add it to AMPLIFIERD_ALLOWED_HOSTS.",
        )
    # daphne would take the prefix of every URL from this header, and hides the header.
    if scope.get("root_path") or b"daphne-root-path" in headers:
        raise Refused(
            400, "header_not_allowed", "Send the request without the header Daphne-Root-Path."
        )
    if not scope["path"].startswith("/"):
        raise Refused(400, "invalid", "Send the path alone as the request's target.")
    # Cookies and forms depend on the scheme; without it they would fail with reasons that do
    # not help. Programs with a key do not need it.
    needs_scheme = b"cookie" in headers or not scope["path"].startswith(FOR_PROGRAMS)
    knows_scheme = not behind_proxy or last_word(headers, b"x-forwarded-proto")
    if needs_scheme and not knows_scheme:
        raise Refused(
            400,
            "invalid",
            "The proxy in front of this daemon does not send the header X-Forwarded-Proto, so"
            " the daemon cannot know whether this came over TLS. Have the proxy send it (nginx:"
            " proxy_set_header X-Forwarded-Proto $scheme;), or unset AMPLIFIERD_BEHIND_PROXY"
            " if there is no proxy.",
        )


def check_origin(scope: ConnectionScope, headers: Headers, behind_proxy: bool = False) -> None:
    """Raise Refused if the browser's headers show that a foreign page sent the request."""
    host = headers[b"host"][0].lower()
    own = {b"https://" + host}
    if scope.get("scheme") != "https":
        # Over plain HTTP both are: a proxy may end TLS and not send its headers.
        own.add(b"http://" + host)
    for origin in headers.get(b"origin", []):
        if origin.lower() not in own:
            raise foreign_page_error(origin, behind_proxy)
    sites = headers.get(b"sec-fetch-site", [])
    ours = all(site in (b"same-origin", b"none") for site in sites)
    if not ours and not is_navigation(scope, headers):
        raise foreign_page_error(b"another site")


def is_navigation(scope: ConnectionScope, headers: Headers) -> bool:
    """Tell whether a person follows a link to one of our pages; the API has none."""
    return (
        scope["method"] == "GET"
        and headers.get(b"sec-fetch-mode") == [b"navigate"]
        and headers.get(b"sec-fetch-dest") == [b"document"]
        and not scope["path"].lstrip("/").startswith("api/")
    )


def foreign_page_error(origin: bytes, behind_proxy: bool = False) -> Refused:
    # If a proxy changes the Host header, our own pages look foreign.
    hint = (
        " If that is the daemon's own address, have the proxy pass on the header Host unchanged"
        " (nginx: proxy_set_header Host $http_host;)."
        if behind_proxy
        else ""
    )
    return Refused(
        403,
        "origin_not_allowed",
        f"Pages from {origin.decode('latin-1')} may not call this daemon; to allow it, add their"
        f" origin to AMPLIFIERD_ALLOWED_ORIGINS.{hint}",
    )


def too_large_error(limit: int) -> Refused:
    return Refused(
        413,
        "too_large",
        f"The body is larger than {limit} bytes; send less, or raise AMPLIFIERD_BODY_LIMIT.",
    )
