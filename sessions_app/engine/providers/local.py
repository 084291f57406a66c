"""provider-local: a small language model inside this process, with no key and no network.

llama.cpp runs as a server in this process; the first request starts it.
"""

import asyncio
import http.client
import json
import os
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from amplifierd.common.program import command
from sessions_app.engine.base import EngineError
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Request,
    ToolMessage,
    UserMessage,
)
from sessions_app.engine.model_files import SMOLLM2, ModelFile, find_damage, wait_for_fetch
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.settings import SAMPLING, RequestOptions, model_settings
from sessions_app.engine.wire import chat
from sessions_app.engine.wire.events import Event, ProviderError, StreamError

NAME = "SmolLM2-135M-Instruct"
DEFAULTS = {"temperature": 0.2, "max_tokens": 300}
# Requests that are answered at the same time; others wait until one of these ends.
SLOTS = 2
# Tokens of one request, prompt and answer together.
CONTEXT = 4096
# Tokens of earlier turns that are sent with a message: more do not help so small a model, and two
# cores read about 200 tokens per second.
MEMORY = 1024
# Tokens that the chat template adds to each message, rounded up.
_FRAME = 8
# Tokens that it adds to the request, with its own system prompt if the profile has none.
_FRAME_OF_ALL = 64
# Seconds to wait for the model's file if a process fetches it; a request waits for 300 at most, and
# has to see the answer in that time.
_FETCHING_TIME = 240.0
# Seconds to count tokens, which usually takes milliseconds.
_COUNTING_TIME = 30.0
# One thread for each waiting or running request, and some more: they use no processor time.
_HTTP_THREADS = 64
# Tokens. A cancelled request ends between two batches of its prompt, so one takes under a second.
_BATCH = 256


@dataclass(frozen=True)
class LocalServer:
    """A running server. It listens on loopback only, and wants its key in each request."""

    url: str
    key: str = field(repr=False)
    # The server stops when this is dropped.
    handle: Any = field(repr=False)


_lock = threading.Lock()
_running: dict[Path, LocalServer] = {}


def local_server(path: Path, model: ModelFile = SMOLLM2) -> LocalServer:
    """Return this process's server of the model at `path`; the first call starts it.

    May be called from any thread, and takes about a second the first time. Raises EngineError
    `model_missing` if the file is missing or damaged; the next call looks again.
    """
    with _lock:
        if path not in _running:
            _running[path] = _start(path, model)
        return _running[path]


def _start(path: Path, model: ModelFile) -> LocalServer:
    # This also reads the whole file into the disk cache. llama.cpp holds the interpreter's lock
    # while it loads the file, so it must not wait for the disk then.
    if damage := find_damage(path, model):
        raise EngineError(
            "model_missing",
            f"The local model cannot be loaded: its file {path} {damage}. "
            f"Run `{command('fetch_model')}`, then send the message again.",
        )
    # Late: only a process that uses the local model should load llama.cpp.
    import xllamacpp

    key = secrets.token_urlsafe(32)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {NAME}
    params.verbosity = -1
    params.warmup = False
    params.use_jinja = True
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.ui = False
    params.endpoint_slots = False
    params.n_threads_http = _HTTP_THREADS
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT
    params.n_batch = params.n_ubatch = _BATCH
    # Without a limit it would keep earlier prompts in up to 8 GB.
    params.cache_ram_mib = 0
    # If the oldest turns are left out, the rest of the prompt can still come from the cache.
    params.n_cache_reuse = 32
    # The threads of one computation wait for each other, in busy loops, hundreds of times per
    # token. If other programs need the cores too, as many threads as cores are ten times slower
    # than half as many.
    threads = min(max((os.cpu_count() or 2) // 2, 1), 8)
    for pool in (params.cpuparams, params.cpuparams_batch):
        pool.n_threads = threads
        pool.poll = 0
    # Without these, so small a model picks odd words and repeats itself. A larger penalty on words
    # would make it avoid those of the question; DRY forbids only whole phrases.
    params.sampling.penalty_repeat = 1.05
    params.sampling.min_p = 0.1
    params.sampling.dry_multiplier = 0.8
    params.sampling.dry_allowed_length = 4
    params.sampling.dry_penalty_last_n = 512
    handle = xllamacpp.Server(params)
    return LocalServer(handle.listening_address, key, handle)


class Local(Provider):
    """The local model. It gets the newest turns that fit into its context.

    The instructions and the newest turn are always sent.
    """

    module = "provider-local"
    capabilities = ProviderCapabilities(
        executes_code=False,
        touches_files=False,
        is_scripted=False,
        reaches_network=False,
        needs_key=False,
        has_address=False,
        accepts_tools=False,
        summarizes=False,
        context_window=CONTEXT,
        # Its chat template accepts roles in any order.
        strict_roles=False,
        leading_system=False,
    )
    # In seconds: a request may wait long for one of the slots.
    defaults = {"timeout": 600}
    settings = SAMPLING

    @property
    def model(self) -> str:
        return NAME

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        """Give the events of an answer to the newest messages that fit.

        The first request of a process starts the model's server, which takes a second. Raises
        EngineError `model_missing` without the model's file.
        """
        # Late: to list the providers, HTTP is not needed.
        from sessions_app.engine.wire.http import stream_events

        chosen = {**DEFAULTS, **model_settings(self.config, self.module)}
        answer_room = min(int(chosen["max_tokens"]), CONTEXT // 4)
        # In threads, because to start the server and to count tokens block.
        server = await asyncio.to_thread(_find_server)
        messages = await asyncio.to_thread(_select_newest, server, request, answer_room)
        options = RequestOptions(NAME, self.service, self.can, chosen)
        body = chat.build_body(replace(request, messages=messages), options)
        url = f"{server.url}/v1/chat/completions"
        headers = {"Authorization": f"Bearer {server.key}"}
        async with stream_events(url, headers, body, self.limits, chat.ChatReader()) as events:
            yield events


def _find_server() -> LocalServer:
    path = settings.MODELS_DIR / SMOLLM2.name
    if not path.is_file():
        # A daemon that was just installed may be fetching it.
        wait_for_fetch(settings.MODELS_DIR, _FETCHING_TIME)
    return local_server(path)


def _select_newest(server: LocalServer, request: Request, answer_room: int) -> tuple[Message, ...]:
    """Return the newest turns that fit into the context; a turn is never cut."""
    messages = request.messages
    starts = [at for at, message in enumerate(messages) if isinstance(message, UserMessage)]
    kept = starts.pop() if starts else 0
    newest = _FRAME_OF_ALL + _count_tokens(server, request.instructions, messages[kept:])
    if newest >= CONTEXT:
        message = (
            f"The message has {newest} tokens, of {CONTEXT} that the local model can read. "
            "Shorten it, or use a profile with a larger model."
        )
        raise ProviderError(StreamError("too_long", message))
    free = min(CONTEXT - answer_room - newest, MEMORY)
    for start in reversed(starts):
        free -= _count_tokens(server, "", messages[start:kept])
        if free < 0:
            break
        kept = start
    return messages[kept:]


def _count_tokens(server: LocalServer, instructions: str, messages: tuple[Message, ...]) -> int:
    """Return the tokens of messages, with what the chat template adds to each; blocks.

    Raises ProviderError if the server does not answer.
    """
    texts = [instructions]
    for message in messages:
        if isinstance(message, ToolMessage):
            texts += [result.content for result in message.results]
        elif isinstance(message, AssistantMessage):
            texts.append(message.text)
        else:
            texts.append(message.content)
    text = "\n".join(filter(None, texts))
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=_COUNTING_TIME)
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/tokenize", json.dumps({"content": text}), headers)
        answer = json.loads(connection.getresponse().read())
        return len(answer["tokens"]) + _FRAME * (len(messages) + bool(instructions))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        reason = f"the local model could not count tokens: {error}"
        raise ProviderError(StreamError("broken_off", reason)) from error
    finally:
        connection.close()
