"""A client of a stream that has no cursor yet, when the processes behind it die."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.harness.daemon import Daemon
from tests.harness.sse import Frame, frames
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.long]


@contextmanager
def source(own: Daemon, session_id: str, last: str | None) -> Iterator[Iterator[Frame]]:
    """Connect as an `EventSource` does that has seen the id `last`."""
    headers = {} if last is None else {"Last-Event-ID": last}
    url = f"{own.url}/api/v1/sessions/{session_id}/stream"
    with httpx.stream("GET", url, headers=headers, timeout=20) as answer:
        assert answer.status_code == 200, answer.status_code
        yield frames(answer.iter_lines())


@pytest.mark.parametrize("is_started", [False, True])
def test_nothing_is_missed_when_the_web_processes_die_before_the_first_event(
    breakable: Daemon, is_started: bool
) -> None:
    created = breakable.ask("POST", "/sessions/", {"profile_name": "foundation/test"})
    session_id = created["sessionId"]
    if is_started:
        breakable.ask("POST", f"/sessions/{session_id}/start")
    first = int(is_started)
    with source(breakable, session_id, None) as stream:
        assert next(stream).event == "connected"
        bookmark = next(stream)
        assert (bookmark.id, bookmark.event) == (first, "keepalive")
        breakable.kill("run_web")
        with pytest.raises((httpx.TransportError, StopIteration)):
            next(stream)
    until(breakable.ready, "the web processes to be back")
    if not is_started:
        breakable.ask("POST", f"/sessions/{session_id}/start")
    breakable.send(session_id, "hello")
    seen: list[Frame] = []
    with source(breakable, session_id, str(bookmark.id)) as stream:
        for frame in stream:
            seen += [frame] if frame.id is not None else []
            if frame.event == "assistant_message_complete":
                break
    assert [frame.id for frame in seen] == list(range(first + 1, first + 1 + len(seen)))
    assert [frame.event for frame in seen][-1] == "assistant_message_complete"
    breakable.ask("POST", f"/sessions/{session_id}/complete")
    url = f"{breakable.url}/api/v1/sessions/{session_id}/stream"
    end = breakable.events(session_id)[-1]["id"]
    answer = httpx.get(url, headers={"Last-Event-ID": str(end)})
    assert (answer.status_code, answer.content) == (204, b"")
