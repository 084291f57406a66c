"""Two installations behind one name, with the nginx configuration of deploy/cells.nginx.conf."""

import shutil
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.acceptance.proxies import DEPLOY, HOST, localized, serve_nginx
from tests.acceptance.test_public_address import bearer, certify, key_of, manage
from tests.harness.daemon import Daemon
from tests.harness.sse import frames

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.long,
    pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed"),
]
CELLS = ("00", "01")


@pytest.fixture(scope="module")
def keys_and_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], str]]:
    """The key of an owner in each cell, and the address of both."""
    folder = tmp_path_factory.mktemp("cells")
    settings = {"AMPLIFIERD_ALLOWED_HOSTS": HOST, "AMPLIFIERD_BEHIND_PROXY": "1"}
    daemons = {
        cell: Daemon(folder / cell / "home", AMPLIFIERD_CELL=cell, AMPLIFIERD_WEB="1", **settings)
        for cell in CELLS
    }

    def start(cell: str) -> str:
        assert manage(daemons[cell], "migrate").returncode == 0
        key = key_of(daemons[cell], f"owner-{cell}", "admin")
        daemons[cell].start()
        return key

    try:
        for cell in CELLS:
            (folder / cell).mkdir()
        with ThreadPoolExecutor() as pool:
            keys = dict(zip(CELLS, pool.map(start, CELLS), strict=True))
        text = (DEPLOY / "cells.nginx.conf").read_text()
        text = text.replace("127.0.0.1:8430", f"127.0.0.1:{daemons['01'].port}")
        text = localized(text, daemons["00"].port, *certify(folder))
        with serve_nginx(folder, text) as port:
            yield keys, f"https://127.0.0.1:{port}"
    finally:
        for daemon in daemons.values():
            daemon.discard()


@pytest.mark.parametrize("cell", CELLS)
def test_a_session_lives_in_the_cell_of_its_owners_key(
    keys_and_url: tuple[dict[str, str], str], cell: str
) -> None:
    keys, url = keys_and_url
    assert keys[cell].startswith(f"amp_{cell}")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    headers = {**bearer(keys[cell]), "Host": HOST}
    with httpx.Client(base_url=f"{url}/api/v1", headers=headers, verify=context, timeout=60) as own:
        made = own.post("/sessions/", json={"profile_name": "foundation/test"})
        assert made.status_code == 201, made.text
        session = made.json()["sessionId"]
        assert session[len("session_") + 12 :][:2] == cell
        assert own.post(f"/sessions/{session}/start").status_code == 204
        sent = own.post(f"/sessions/{session}/send-message?wait=60", json={"content": "hello"})
        assert sent.json()["run"]["status"] == "succeeded", sent.text
        assert own.post(f"/sessions/{session}/complete").status_code == 204
        with own.stream("GET", f"/sessions/{session}/stream?after=0") as answer:
            numbers = [each.id for each in frames(answer.iter_lines()) if each.id is not None]
        assert numbers == [*range(1, len(numbers) + 1)]
        assert [each["sessionId"] for each in own.get("/sessions/").json()] == [session]
        # The other cell has neither this session nor this key.
        other = next(each for each in CELLS if each != cell)
        elsewhere = f"{session[:20]}{other}{session[22:]}"
        assert own.get(f"/sessions/{elsewhere}").status_code == 401
