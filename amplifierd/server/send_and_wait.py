"""Sends a message and waits for its answer in one request, on the event loop.

The view accepts the message in a thread of the WSGI adapter, as always. Then the request holds
neither a thread nor a database connection: it waits in the hub of the streams. Once the run has
ended, a short call in a thread reads the answer.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from django.db import connections

from amplifierd.auth.streams import authenticate
from amplifierd.common.asgi import ConnectionScope, Message, Receive, Send
from amplifierd.server.wsgi_adapter import Busy, WSGIAdapter, body_message, wait_for_disconnect
from sessions_app.api import queries
from sessions_app.api.serializers import OutcomeSerializer
from sessions_app.exceptions import RunWasLost, SessionNotFound
from sessions_app.models import Run
from sessions_app.services.epoch import EPOCH_HEADER, read_epoch
from sessions_app.states import RUN_TERMINAL
from sessions_app.streaming.hub import wait_for_run

REPLAYED = (b"idempotent-replayed", b"true")
EPOCH = EPOCH_HEADER.lower().encode()


@dataclass(eq=False)
class SendAndWait:
    """An ASGI application before the WSGI adapter, for requests that send a message.

    200 with `{run, message}` if the run ends in time; otherwise the answer of the view, which is
    202 if the message was accepted. If the client disconnects, its run goes on.
    """

    adapter: WSGIAdapter
    # How long a request waits that has neither the parameter nor the header.
    seconds: float = 0

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        parameter = query.get("wait", [None])[-1]
        prefer = [value for name, value in scope["headers"] if name.lower() == b"prefer"]
        wait = queries.parse_wait(parameter, b",".join(prefer).decode("latin-1"))
        wait = wait or queries.Wait(self.seconds)
        if scope["method"] != "POST" or not wait.seconds:
            return await self.adapter(scope, receive, send)
        deadline = asyncio.get_running_loop().time() + wait.seconds
        answer = HeldResponse()
        await self.adapter(scope, receive, answer.take)
        if answer.status == 202:
            waiting = asyncio.ensure_future(self._wait_for_outcome(scope, answer, deadline))
            leaving = asyncio.ensure_future(wait_for_disconnect(receive))
            try:
                await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    return
                if outcome := waiting.result():
                    answer.replace(outcome)
                if wait.is_preference:
                    applied = f"wait={wait.seconds:g}".encode()
                    answer.headers.append((b"preference-applied", applied))
            finally:
                waiting.cancel()
                leaving.cancel()
        await answer.send(send)

    async def _wait_for_outcome(
        self, scope: ConnectionScope, answer: "HeldResponse", deadline: float
    ) -> bytes | None:
        """Return the answer for the run; None if it has not ended at the deadline."""
        accepted = json.loads(answer.body)
        session_id, run_id = accepted["sessionId"], accepted["runId"]
        epoch = dict(answer.headers).get(EPOCH, b"").decode()
        read = partial(read_outcome, scope, session_id, run_id, epoch)
        client = self.adapter.find_client(scope)
        # The first answer to a key may be old, and the events of its run may be gone.
        if REPLAYED in answer.headers and (outcome := await self._read_outcome(read, client)):
            return outcome
        # If the database was set back meanwhile and has the run, it is waited for once more.
        for after, known in ((accepted["lastEventId"], epoch), (0, "")):
            try:
                async with asyncio.timeout_at(deadline):
                    await wait_for_run(session_id, run_id, after, known)
            except TimeoutError:
                return None
            if outcome := await self._read_outcome(read, client):
                return outcome
        return None

    async def _read_outcome(self, read: Callable[[], bytes | None], client: bytes) -> bytes | None:
        try:
            return await self.adapter.call(read, client=client)
        except Busy:
            return None


class HeldResponse:
    """A response that is held back while its run is waited for."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message["headers"])
        else:
            self.body += message["body"]

    def replace(self, body: bytes) -> None:
        """Answer 200 with this JSON instead."""
        self.status, self.body = 200, body
        self.headers = [pair for pair in self.headers if pair[0] != b"content-length"]
        self.headers.append((b"content-length", str(len(body)).encode()))

    async def send(self, send: Send) -> None:
        """Send the response; there is none for a client that has disconnected."""
        if self.status:
            start: Any = {"type": "http.response.start", "status": self.status}
            await send({**start, "headers": self.headers})
            await send(body_message(self.body))


def read_outcome(scope: ConnectionScope, session_id: str, run_id: str, epoch: str) -> bytes | None:
    """Return the run and its message as JSON; None for a run that is open.

    Raises SessionNotFound if it was deleted, RunWasLost if the database is not of the `epoch` any
    more in which the message was accepted, and what `authenticate` raises: the caller's rights are
    checked again.
    """
    try:
        # As a GET: the form with the CSRF token was read already.
        authenticate({**scope, "method": "GET"})
        run = Run.objects.filter(session_id=session_id, pk=run_id).first()
        if run is None:
            current = read_epoch()
            if epoch and current and current != epoch:
                raise RunWasLost.to(current)
            raise SessionNotFound("The session was deleted while its answer was waited for.")
        if run.status not in RUN_TERMINAL:
            return None
        return json.dumps(OutcomeSerializer.serialize(run), ensure_ascii=False).encode()
    finally:
        connections.close_all()
