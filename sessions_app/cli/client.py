"""A client of the daemon's API: requests, pages, event streams, errors."""

import json
import os
import random
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

import httpx2

from amplifierd.common.program import command, data_folder
from sessions_app.events import EventType, JournalReset, Keepalive

JSON = dict[str, Any]
# Parameters of a list, in their order; a name may occur twice.
Query = list[tuple[str, Any]]

DEFAULT_PORT = "8420"
# Wildcard addresses on which a daemon may listen → the address under which it can be called.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - nothing listens here
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# Seconds for an answer, and for the next bytes of a stream: three of its keepalives.
TIMEOUT = httpx2.Timeout(60, connect=10)
STREAM_TIMEOUT = httpx2.Timeout(45, connect=10)
# Seconds before a stream is opened again: the first wait, and the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
# How often a request is repeated whose answer was lost.
REPEATS = 4
# Rows of a page; an installation may allow fewer than the usual 1,000.
PAGE = 100

# Our own events in a stream: the connection was lost, and is there again; and the database was set
# back, so that the stream goes on at the event `lastEventId` of the session as it is now.
LOST, BACK, RESET = "connection_lost", "connection_back", "database_set_back"
# The epoch of the journals, in answers and beside cursors.
EPOCH = "Journal-Epoch"


class ApiError(Exception):
    """A request failed; the message says why and what to do."""

    def __init__(
        self, message: str, status: int = 0, retry_after: float = 0, after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        # The cursor to go on with, if the one of the request is within a joined event.
        self.after = after

    @property
    def is_passing(self) -> bool:
        """Return whether the same request may succeed if it is repeated."""
        return self.status in {0, 408, 425, 429} or self.status >= 500


class UnreachableError(ApiError):
    """Nothing answers, or the connection is lost; the message says what to do."""


# What a daemon answers for a path that is none of its API: the URL has a wrong one.
NO_PAGE = "There is nothing at this URL."


class StreamEvent(NamedTuple):
    """An event of a session's journal; or LOST, BACK or RESET, without a number."""

    seq: int | None
    name: str
    data: JSON
    at: datetime


@dataclass(frozen=True)
class Daemon:
    """The URL of the daemon, and the API key for it."""

    url: str
    key: str = ""

    @classmethod
    def find(cls, url: str | None, key: str | None) -> Self:
        """Return the daemon of the options, the environment, or this machine's data folder."""
        found = url or os.environ.get("AMPLIFIERD_URL") or find_local_url()
        if "://" not in found:
            found = f"http://{found}"
        if urlsplit(found).scheme not in {"http", "https"} or not urlsplit(found).hostname:
            raise ApiError(f"{found!r} is not a URL of a daemon; write http://HOST:PORT.")
        return cls(found.rstrip("/"), key or os.environ.get("AMPLIFIERD_KEY", ""))

    @property
    def is_local(self) -> bool:
        return urlsplit(self.url).hostname in LOOPBACK


def find_local_url() -> str:
    """Return the URL that the daemon of the data folder has recorded, otherwise the default."""
    try:
        note = json.loads((data_folder() / "serve.lock").read_text(encoding="utf-8"))
        url = note["url"] + note.get("prefix", "")
    except (OSError, ValueError, LookupError, TypeError):
        port = os.environ.get("AMPLIFIERD_PORT") or DEFAULT_PORT
        prefix = os.environ.get("AMPLIFIERD_PREFIX", "").strip("/")
        return f"http://127.0.0.1:{port}/{prefix}".rstrip("/")
    for everywhere, here in EVERYWHERE.items():
        url = url.replace(f"://{everywhere}", f"://{here}")
    return url


class Client:
    """Sends requests to one daemon; every failure is an ApiError with a clear message.

    All cursors that it sends are taken to be of the epoch that its first answer had. After a 410
    call `reload`.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        headers = {"Accept": "application/json"}
        if daemon.key:
            headers["Authorization"] = f"Bearer {daemon.key}"
        try:
            self.http = httpx2.Client(
                base_url=f"{daemon.url}/api/v1/",
                headers=headers,
                timeout=TIMEOUT,
                # Loading certificates is slow, and only TLS needs them.
                verify=daemon.url.startswith("https:"),
                # This machine's daemon is not behind a proxy.
                trust_env=not daemon.is_local,
            )
        except (httpx2.InvalidURL, ValueError) as error:
            raise ApiError(f"{daemon.url!r} is not a URL of a daemon: {error}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.http.close()

    def get(self, path: str, **params: Any) -> Any:
        return self.request("GET", path, params=params).json()

    def post(self, path: str, body: JSON | None = None, *, patiently: bool = False) -> JSON:
        """Send a body; return the answer, empty if it has no content.

        `patiently`: repeat a request whose answer was lost. Because of its idempotency key the
        daemon executes it once.
        """
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        for repeat in range(REPEATS if patiently else 0):
            try:
                return self._post(path, body, headers)
            except UnreachableError:
                threading.Event().wait(FIRST_WAIT * 2**repeat)
        return self._post(path, body, headers)

    def _post(self, path: str, body: JSON | None, headers: dict[str, str]) -> JSON:
        answer = self.request("POST", path, json=body, headers=headers)
        return answer.json() if answer.content else {}

    def pages(self, path: str, params: list[tuple[str, Any]]) -> Iterator[httpx2.Response]:
        """Yield the pages of a list; each is requested when it is needed."""
        cursor: list[tuple[str, Any]] = []
        while True:
            answer = self.request("GET", path, params=[*params, *cursor])
            yield answer
            following = answer.links.get("next", {}).get("url", "")
            if not following:
                return
            cursor = [("cursor", parse_qs(urlsplit(following).query)["cursor"][0])]

    def rows(self, path: str, params: Query, count: int) -> list[JSON]:
        pages = self.pages(path, [*params, ("limit", min(count, PAGE))])
        return list(islice((row for page in pages for row in page.json()), count))

    def events(self, session_id: str, after: int) -> list[JSON]:
        """Return a page of a session's events that follow `after`, oldest first."""
        return self.get(f"sessions/{session_id}/events", after=after)

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Return the answer to a request; raise ApiError unless it succeeded."""
        try:
            answer = self.http.request(method, path, **options)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self.describe_failure(error) from error
        if not answer.is_success:
            raise self.describe_answer(answer)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        if answer.content and not is_json:
            raise self.describe_answer(answer)
        self.note_epoch(answer)
        return answer

    def note_epoch(self, answer: httpx2.Response) -> None:
        if EPOCH in answer.headers and EPOCH not in self.http.headers:
            self.http.headers[EPOCH] = answer.headers[EPOCH]

    def reload(self, session_id: str) -> JSON:
        """Return the session as it is now, and send cursors of its epoch from now on."""
        self.http.headers.pop(EPOCH, None)
        return self.get(f"sessions/{session_id}")

    def describe_failure(self, error: Exception) -> UnreachableError:
        """Return why no answer came, and what to do."""
        daemon = self.daemon
        reason = str(error).strip().rstrip(".") or type(error).__name__
        if isinstance(error.__cause__ or error.__context__, ssl.SSLError) or "SSL" in reason:
            advice = "Call it by the name in its certificate; SSL_CERT_FILE names authorities."
            return UnreachableError(
                f"The connection to {daemon.url} is not safe: {reason}. {advice}"
            )
        if not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return UnreachableError(f"The connection to {daemon.url} is lost: {reason}.")
        if daemon.is_local:
            advice = f"Start the daemon with `{command('serve')}`."
        else:
            advice = "Check --url (or AMPLIFIERD_URL), and that the daemon runs."
        return UnreachableError(f"No daemon answers at {daemon.url}. {advice}")

    def describe_answer(self, answer: httpx2.Response) -> ApiError:
        daemon, status = self.daemon, answer.status_code
        retry_after = answer.headers.get("retry-after", "")
        seconds = float(retry_after) if retry_after.isdecimal() else 0.0
        try:
            problem = answer.json()
            detail, errors = problem["detail"], problem.get("errors") or []
            if detail == NO_PAGE:
                raise ValueError(detail)
        except (ValueError, LookupError, TypeError):
            return ApiError(
                f"{daemon.url} answers, but not as the API of a daemon does (status {status}). "
                "Check the URL and its path.",
                status,
                seconds,
            )
        fields = [f"{each['field']}: {each['detail']}" for each in errors if each.get("field")]
        text = " ".join(fields) if fields else str(detail)
        if status == 401:
            text = f"{daemon.url} demands an API key. {text}" if not daemon.key else text
            text += (
                f" `{command('apikeys create NAME')}` on its machine makes one; "
                "give it with --key, or in AMPLIFIERD_KEY."
            )
        elif status == 403:
            text += f" `{command('apikeys create NAME --scope …')}` makes a key that may do more."
        elif status == 410 and isinstance(problem.get("after"), int):
            return ApiError(text, status, after=problem["after"])
        elif status == 503:
            text += f" Try again in {seconds:.0f} s." if seconds else " Try again in a moment."
        return ApiError(text, status, seconds)


class EventStream:
    """A session's events after a cursor, each once and in order; it reconnects if necessary.

    Ends with the session. Yields LOST if the first attempt to reconnect fails, and BACK once a
    later one succeeds; RESET if the database was set back, after which it goes on with what is new.
    """

    def __init__(self, client: Client, session_id: str, after: int) -> None:
        self._client = client
        self._session_id = session_id
        self._cursor = after
        self._closed = threading.Event()
        self._is_reset = False
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """End the iteration, also while another thread waits in it."""
        self._closed.set()
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                # It is closed already.
                return

    def __iter__(self) -> Iterator[StreamEvent]:
        """Yield the events; raise ApiError if the session is deleted or not visible."""
        failures, is_lost = 0, False
        while not self._closed.is_set():
            try:
                for event in self._open():
                    if is_lost:
                        is_lost = False
                        yield StreamEvent(None, BACK, {}, datetime.now(UTC))
                    failures = 0
                    if event.seq is not None or event.name == RESET:
                        yield event
                    if event.name == EventType.SESSION_ENDED:
                        return
                wait = 0.0
            except ApiError as error:
                self._is_reset |= error.status == 410
                if not (error.is_passing or error.status == 410):
                    raise
                wait = error.retry_after
                if failures and not is_lost and not self._closed.is_set():
                    is_lost = True
                    yield StreamEvent(None, LOST, {"error": str(error)}, datetime.now(UTC))
            pause = min(FIRST_WAIT * 2**failures, LONGEST_WAIT) * random.uniform(0.75, 1.25)  # noqa: S311
            failures = min(failures + 1, 10)
            self._closed.wait(max(pause, wait))

    def _open(self) -> Iterator[StreamEvent]:
        """Yield the events of one connection; an event without a number shows that it works."""
        client = self._client
        if self._is_reset:
            session = client.reload(self._session_id)
            self._cursor, self._is_reset = session["lastEventId"], False
            yield StreamEvent(None, RESET, session, datetime.now(UTC))
        headers = {"Last-Event-ID": str(self._cursor)}
        path = f"sessions/{self._session_id}/stream"
        try:
            with client.http.sse(path, headers=headers, timeout=STREAM_TIMEOUT) as source:
                answer = source.response
                self._socket = answer.extensions["network_stream"].get_extra_info("socket")
                if answer.status_code == 204:
                    yield StreamEvent(None, EventType.SESSION_ENDED, {}, datetime.now(UTC))
                    return
                if answer.status_code != 200:
                    answer.read()
                    raise client.describe_answer(answer)
                client.note_epoch(answer)
                for frame in source:
                    data = json.loads(frame.data)
                    seq = int(frame.id) if frame.id else None
                    if frame.event == EventType.SESSION_ENDED and data.get("status") == "deleted":
                        raise ApiError("The session has been deleted.", 404)
                    if frame.event == JournalReset.meta.name:
                        self._is_reset = True
                        return
                    # A keepalive repeats the id of the last event.
                    if frame.event == Keepalive.meta.name or seq is None or seq <= self._cursor:
                        yield StreamEvent(None, "notice", {}, datetime.now(UTC))
                        continue
                    self._cursor = seq
                    yield StreamEvent(seq, frame.event, data, datetime.now(UTC))
        except httpx2.HTTPError as error:
            raise client.describe_failure(error) from error
        finally:
            self._socket = None
