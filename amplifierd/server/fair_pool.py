"""Threads that clients share fairly: whoever sends many slow requests delays only its own."""

import hashlib
import re
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from amplifierd.common.asgi import ConnectionScope

Result = TypeVar("Result")
Work = tuple[Future[Any], Callable[[], Any]]

# Of this many threads, one is for clients that have none.
THREADS_OF_ONE_RESERVED = 8
_LOGIN = re.compile(rb"(?:^|;)\s*sessionid=([^;]*)")


def identify_client(scope: ConnectionScope) -> bytes:
    """Return by what a client is known before its key is looked up.

    Its key; else the login of its cookie; else its address. A key that is made up is another
    client each time, and costs no more than to be refused.
    """
    headers = dict(scope["headers"])
    if sent := headers.get(b"authorization", b"").partition(b" ")[2].strip():
        return hashlib.sha256(sent).digest()
    if login := _LOGIN.search(headers.get(b"cookie", b"")):
        return hashlib.sha256(login[1]).digest()
    return str((scope.get("client") or ("",))[0]).encode()


class FairPool:
    """A pool of threads. A free one takes the work of the client that has the fewest.

    If several have as few, they take turns. `share` is how many threads one client may have at
    once. Work is submitted by one thread, that of the event loop.
    """

    def __init__(self, threads: int, share: int) -> None:
        self.share = share
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._free = threads
        self._running: Counter[bytes] = Counter()
        # In the order of turns.
        self._waiting: dict[bytes, deque[Work]] = {}
        self._is_closed = False
        self._changed = threading.Condition()

    def submit(self, function: Callable[[], Result], client: bytes = b"") -> Future[Result]:
        """Have a thread call the function; raise RuntimeError if the pool is shut down."""
        future: Future[Result] = Future()
        with self._changed:
            if self._is_closed:
                raise RuntimeError("The pool takes no more work.")
            self._waiting.setdefault(client, deque()).append((future, function))
            self._start()
        return future

    def count(self, client: bytes) -> int:
        """Return how much of a client's work is running or waiting."""
        with self._changed:
            return self._running[client] + len(self._waiting.get(client, ()))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; cancel what waits, or have it done."""
        with self._changed:
            self._is_closed = True
            dropped = [future for queue in self._waiting.values() for future, _ in queue]
            if cancel_futures:
                self._waiting.clear()
            self._changed.wait_for(lambda: not self._waiting)
        # Each calls its callbacks, so without the lock.
        for future in dropped if cancel_futures else ():
            future.cancel()
        self._threads.shutdown(wait)

    def _start(self) -> None:
        """Give free threads work, while there is any that may have one; under the lock."""
        while self._free:
            entitled = [each for each in self._waiting if self._running[each] < self.share]
            if not entitled:
                break
            client = min(entitled, key=self._running.__getitem__)
            queue = self._waiting.pop(client)
            future, function = queue.popleft()
            if queue:
                self._waiting[client] = queue
            if future.set_running_or_notify_cancel():
                self._free -= 1
                self._running[client] += 1
                self._threads.submit(self._work, client, future, function)
        if not self._waiting:
            self._changed.notify_all()

    def _work(self, client: bytes, future: Future[Any], function: Callable[[], Any]) -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        with self._changed:
            self._free += 1
            self._running[client] -= 1
            if not self._running[client]:
                del self._running[client]
            self._start()
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
