"""The local model's server: llama.cpp in this process, started once, on first use."""

import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sessions_app.engine.base import EngineError
from sessions_app.engine.model_files import SMOLLM2, ModelFile, fault

# Requests that are answered side by side; further ones wait for one of these to end.
SLOTS = 2
# Tokens of one request, prompt and answer together.
CONTEXT = 4096
NAME = "SmolLM2-135M-Instruct"

_LOOPBACK = "127.0.0.1"
# One per waiting or running request, and some to spare: they hold no processor time.
_HTTP_THREADS = 64
# A cancelled request leaves between two batches of its prompt, so a batch is under a second.
_BATCH = 256


@dataclass(frozen=True)
class LocalServer:
    """A running server: it listens on loopback only, and answers only who knows its key."""

    url: str
    key: str = field(repr=False)
    # Whoever drops this stops the server.
    handle: Any = field(repr=False)


_lock = threading.Lock()
_running: dict[Path, LocalServer] = {}


def local_server(path: Path, model: ModelFile = SMOLLM2) -> LocalServer:
    """Return this process's server of the model at `path`; the first call starts it.

    May be called from any thread, and takes about a second the first time. Raises EngineError
    `model_missing` where the file is not there or damaged; the next call looks again.
    """
    with _lock:
        if path not in _running:
            _running[path] = _started(path, model)
        return _running[path]


def _started(path: Path, model: ModelFile) -> LocalServer:
    # Reading all of the file also brings it into memory, before llama.cpp, which holds the
    # interpreter's lock while it loads, has to wait for the disk.
    if problem := fault(path, model):
        raise EngineError(
            "model_missing",
            f"The local model cannot be loaded: its file {path} {problem}. "
            "Run `make model` (or `python manage.py fetch_model`), then send the message again.",
        )
    # Late, because only who uses the local model should pay for llama.cpp.
    import xllamacpp

    key = secrets.token_urlsafe(32)
    handle = xllamacpp.Server(_parameters(xllamacpp, path, key))
    return LocalServer(handle.listening_address, key, handle)


def _parameters(llama: Any, path: Path, key: str) -> Any:
    params = llama.CommonParams()
    params.model.path = str(path)
    params.model_alias = {NAME}
    params.verbosity = -1
    params.warmup = False
    _listen(params, key)
    _share(params)
    # Against babbling: left alone, a model this small picks odd words and repeats itself. A larger
    # penalty on words makes it avoid those of the question; DRY forbids whole phrases only.
    params.sampling.penalty_repeat = 1.05
    params.sampling.min_p = 0.1
    params.sampling.dry_multiplier = 0.8
    params.sampling.dry_allowed_length = 4
    params.sampling.dry_penalty_last_n = 512
    params.use_jinja = True
    return params


def _listen(params: Any, key: str) -> None:
    params.hostnames = [_LOOPBACK]
    params.port = 0
    params.api_keys = [key]
    params.ui = False
    params.endpoint_slots = False
    params.n_threads_http = _HTTP_THREADS


def _share(params: Any) -> None:
    """Divide memory and processors, so that the rest of the machine stays alive."""
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT
    params.n_batch = params.n_ubatch = _BATCH
    # Without a limit it would keep past prompts in up to 8 GB.
    params.cache_ram_mib = 0
    # A session that forgets its oldest turns still has the rest in the cache, further back.
    params.n_cache_reuse = 32
    # The threads of one computation wait for each other, spinning, hundreds of times per token:
    # where something else needs the cores too, as many threads as cores make a tenth of the
    # speed that half as many make.
    threads = min(max((os.cpu_count() or 2) // 2, 1), 8)
    for pool in (params.cpuparams, params.cpuparams_batch):
        pool.n_threads = threads
        pool.poll = 0
