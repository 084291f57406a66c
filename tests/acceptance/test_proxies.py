"""The daemon below a path, behind a proxy that takes that path off."""

import contextlib
import itertools
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance import proxies
from tests.acceptance.proxies import HOST, PREFIX, is_installed
from tests.acceptance.test_public_address import bearer, certify, key_of, manage
from tests.harness.daemon import Daemon
from tests.harness.sse import frames
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.long]
KINDS = ["python", *filter(is_installed, ("nginx", "caddy"))]
NAME, PASSWORD = "watcher", "not-a-common-one-7"
TOKENS = 60
SLOW = f"BENCH tokens={TOKENS} delay_ms=50"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that is served below a path, with a key and a login."""
    settings = {
        "AMPLIFIERD_ALLOWED_HOSTS": HOST,
        "AMPLIFIERD_BEHIND_PROXY": "1",
        "AMPLIFIERD_PREFIX": f"{PREFIX}/",
    }
    daemon = Daemon(tmp_path_factory.mktemp("below") / "home", **settings)
    try:
        assert manage(daemon, "migrate").returncode == 0
        words = ("createsuperuser", "--noinput", "--username", NAME, "--email", "a@b.example")
        made = manage(daemon, *words, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
        assert made.returncode == 0, made.stderr
        daemon.api.headers.update(bearer(key_of(daemon, "alice", "admin")))
        yield daemon.start()
    finally:
        daemon.discard()


class Outside:
    """What a client knows: an address, and whom it has to believe."""

    def __init__(self, kind: str, port: int) -> None:
        self.kind = kind
        scheme = "http" if kind == "python" else "https"
        self.origin = f"https://{HOST}:{port}"
        self.root = f"{scheme}://127.0.0.1:{port}"
        self.host = f"{HOST}:{port}"

    def client(self, **headers: str) -> httpx.Client:
        """Return a client that calls the proxy by the daemon's name."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        transport = Named(self.host, context)
        return httpx.Client(
            base_url=self.root,
            transport=transport,
            headers={"Host": self.host, **headers},
            timeout=30,
        )

    def local(self, url: str) -> str:
        """Return where a URL of the daemon's leads from here; it must begin as a client's does."""
        if url.startswith("/"):
            return url
        assert url.startswith(f"{self.origin}/"), url
        return url.removeprefix(self.origin)


class Named(httpx.HTTPTransport):
    """Connects to this machine under the daemon's name, also for TLS."""

    def __init__(self, host: str, context: ssl.SSLContext) -> None:
        super().__init__(verify=context)
        self.host = host

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = HOST
        return super().handle_request(request)


@pytest.fixture(scope="module", params=KINDS)
def outside(
    request: pytest.FixtureRequest, own: Daemon, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        if request.param == "python":
            port = stack.enter_context(proxies.stripping(own.port, scheme="https"))
        else:
            run = getattr(proxies, request.param)
            port = stack.enter_context(run(folder, own.port, *certify(folder)))
        found = Outside(request.param, port)

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError), found.client() as client:
                return client.get(f"{PREFIX}/readyz").status_code == 200
            return False

        until(answers, f"{request.param} to answer")
        yield found


def links(page: str) -> list[str]:
    """Return the paths on this host that a page names."""
    found = re.findall(r'(?:href|src|action|content|data-[a-z-]+)="(/[^"]*)"', page)
    return [link.replace("&amp;", "&") for link in found]


def signed_in(outside: Outside) -> httpx.Client:
    """Sign in as a browser does: cookies by their paths, forms with their origin."""
    browser = outside.client(Accept="text/html,*/*", Origin=outside.origin)
    login = browser.get(f"{PREFIX}/admin/login/")
    assert login.status_code == 200, login.text
    [token] = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', login.text)
    assert f"Path={PREFIX}" in login.headers["set-cookie"]
    # The cookies are for TLS alone, which our own proxy only pretends.
    keep(browser, login)
    form = {"username": NAME, "password": PASSWORD, "csrfmiddlewaretoken": token}
    # Without `next` it leads to the console.
    headers = {"Referer": f"{outside.origin}{PREFIX}/admin/login/"}
    answer = browser.post(f"{PREFIX}/admin/login/", data=form, headers=headers)
    assert answer.status_code == 302, answer.text
    assert outside.local(answer.headers["location"]) == f"{PREFIX}/admin/"
    keep(browser, answer)
    return browser


def keep(browser: httpx.Client, answer: httpx.Response) -> None:
    """Take cookies over, and send them to this address whatever scheme it has."""
    for cookie in list(answer.cookies.jar):
        assert cookie.path == PREFIX, cookie
        assert cookie.secure
    set_cookies = [value.partition(";")[0] for value in answer.headers.get_list("set-cookie")]
    before = filter(None, browser.headers.get("Cookie", "").split("; "))
    known = dict(pair.split("=", 1) for pair in before)
    known.update(pair.split("=", 1) for pair in set_cookies)
    browser.cookies.clear()
    browser.headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in known.items())


def test_pages_and_all_that_they_load_are_below_the_path(outside: Outside, own: Daemon) -> None:
    session = own.session()
    own.send(session, "hello")
    until(lambda: len(own.transcript(session)) == 2, "an answer")
    with contextlib.closing(signed_in(outside)) as browser:
        first = browser.get(f"{PREFIX}/")
        assert outside.local(first.headers["location"]) == f"{PREFIX}/admin/"
        pages = [
            "/admin/",
            "/admin/sessions_app/session/",
            f"/admin/sessions_app/session/{session}/change/",
            "/admin/sessions_app/approval/",
            "/admin/profiles_app/profile/",
            "/docs",
        ]
        named = set()
        for path in pages:
            page = browser.get(f"{PREFIX}{path}")
            assert page.status_code == 200, path
            named.update(links(page.text))
        assert f"{PREFIX}/api/v1/sessions/{session}/stream" in named
        assert f"{PREFIX}/api/v1" in named
        astray = [link for link in named if not link.startswith(f"{PREFIX}/")]
        assert astray == []
        static = [link for link in named if "/static/" in link]
        assert len(static) > 5
        for link in static:
            assert browser.get(link).status_code == 200, link
        icon = browser.get(f"{PREFIX}/favicon.ico")
        assert browser.get(outside.local(icon.headers["location"])).status_code == 200


def test_a_page_calls_the_api_with_its_cookie(outside: Outside) -> None:
    with contextlib.closing(signed_in(outside)) as browser:
        page = browser.get(f"{PREFIX}/admin/")
        [token, *_] = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        headers = {"X-CSRFToken": token, "Referer": f"{outside.origin}{PREFIX}/admin/"}
        made = browser.post(f"{PREFIX}/api/v1/sessions/", json={}, headers=headers)
        assert made.status_code == 201, made.text
        stream = f"{PREFIX}/api/v1/sessions/{made.json()['sessionId']}/stream"
        with browser.stream("GET", stream) as answer:
            assert answer.status_code == 200
            assert next(frames(answer.iter_lines())).event == "connected"


def test_urls_of_the_api_are_those_of_the_outside(outside: Outside, own: Daemon) -> None:
    key = own.api.headers["authorization"]
    with outside.client(Authorization=key) as client:
        made = [client.post(f"{PREFIX}/api/v1/sessions/", json={}) for _ in range(2)]
        plan = made[0].json()["mountPlanPath"]
        assert plan.startswith(f"{PREFIX}/api/v1/sessions/")
        assert client.get(plan).status_code == 200
        for path in ("sessions/", "profiles/"):
            answer = client.get(f"{PREFIX}/api/v1/{path}?limit=1")
            assert answer.status_code == 200
            if path == "sessions/" or "link" in answer.headers:
                following = answer.links["next"]["url"]
                assert client.get(outside.local(following)).status_code == 200
        description = client.get(f"{PREFIX}/api/v1/openapi.json").json()
        assert description["servers"] == [{"url": PREFIX}]
        assert "/api/v1/sessions/" in description["paths"]
        assert client.get(f"{PREFIX}/api/v1/nothing").json()["code"] == "not_found"


def test_streams_come_as_they_are_written(outside: Outside, own: Daemon) -> None:
    session = own.session()
    times: dict[str, list[float]] = {}
    with outside.client(Authorization=own.api.headers["authorization"]) as client:
        url = f"{PREFIX}/api/v1/sessions/{session}/stream?after=0"
        with client.stream("GET", url) as answer:
            own.send(session, SLOW)
            for frame in frames(answer.iter_lines()):
                times.setdefault(frame.event, []).append(time.monotonic())
                if frame.event == "assistant_message_complete":
                    break
    pieces = times["content"]
    assert len(pieces) > 10
    # All at once at the end, or in large portions, is what a proxy does that holds back.
    assert pieces[-1] - pieces[0] > 0.5 * TOKENS * 0.05
    assert max(b - a for a, b in itertools.pairwise(pieces)) < 1.5


def test_it_does_not_matter_whether_the_prefix_is_taken_off(own: Daemon) -> None:
    for path in (f"{PREFIX}/api/v1/sessions/", "/api/v1/sessions/"):
        answer = own.api.get(f"{own.url}{path}")
        assert answer.status_code == 200
    for path in ("/livez", "/readyz", f"{PREFIX}/livez", f"{PREFIX}/readyz"):
        assert httpx.get(f"{own.url}{path}").status_code == 200


def test_a_proxy_that_does_not_tell_the_scheme_is_named_on_the_page(own: Daemon) -> None:
    with proxies.stripping(own.port, scheme=None) as port:
        root, host = f"http://127.0.0.1:{port}{PREFIX}", {"Host": f"{HOST}:{port}"}
        page = httpx.get(f"{root}/admin/login/", headers={**host, "Accept": "text/html,*/*"})
        assert page.status_code == 400
        assert page.headers["content-type"].startswith("text/html")
        assert "X-Forwarded-Proto" in page.text
        assert "proxy_set_header" in page.text
        by_cookie = httpx.get(f"{root}/api/v1/sessions/", headers={**host, "Cookie": "sessionid=x"})
        assert (by_cookie.status_code, by_cookie.json()["code"]) == (400, "invalid")
        assert "X-Forwarded-Proto" in by_cookie.json()["detail"]
        key = {"Authorization": own.api.headers["authorization"]}
        assert httpx.get(f"{root}/api/v1/sessions/", headers={**host, **key}).status_code == 200


@pytest.mark.parametrize("prefix", ["/admin", "api", "a b", "/../x", "//x?y"])
def test_a_prefix_that_cannot_be_used_is_refused(tmp_path: Path, prefix: str) -> None:
    daemon = Daemon(tmp_path / "home", AMPLIFIERD_PREFIX=prefix)
    refused = manage(daemon, "check")
    daemon.api.close()
    assert refused.returncode == 1
    assert "AMPLIFIERD_PREFIX must" in refused.stderr
