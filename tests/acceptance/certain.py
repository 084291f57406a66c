"""Requests that are repeated until it is certain what came of them, as a careful client does."""

import time
import uuid
from collections import Counter
from typing import Any

import httpx

from tests.harness import plain
from tests.harness.daemon import PATIENCE

# Seconds that one request may take: nothing hangs, whatever has died.
LONGEST = 30.0


class Certain:
    """A client of the API for which an effect is there once, or not at all.

    A broken connection and a 503 leave it open whether the request had an effect: it is sent
    again with the same Idempotency-Key. Any other answer is certain.
    """

    def __init__(self, url: str) -> None:
        self.http = plain.Client(base_url=f"{url}/api/v1/sessions/", timeout=LONGEST)
        self.answers: Counter[str] = Counter()

    def close(self) -> None:
        """Let go of the connections."""
        self.http.close()

    def post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Return the certain answer to a POST."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return self.ask("POST", path, headers=key, **({} if body is None else {"json": body}))

    def get(self, path: str) -> Any:
        """Return the body of a 200."""
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def delete(self, path: str) -> None:
        """Delete; the answer 404 is as good only where an earlier try may have done it."""
        before = self.answers.copy()
        answer = self.ask("DELETE", path)
        tries = (self.answers - before).total()
        assert answer.status_code == 204 or (answer.status_code == 404 and tries > 1), answer.text

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return the first certain answer."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self.once(method, path, **options)
            if answer is not None:
                return answer
            time.sleep(0.05)
        raise AssertionError(f"{method} {path} had no certain answer in {PATIENCE:g} s")

    def once(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Ask once; None where it is not certain what came of it."""
        try:
            answer = self.http.request(method, path, **options)
        except httpx.TimeoutException:
            raise AssertionError(f"{method} {path} had no answer in {LONGEST:g} s") from None
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status_code)] += 1
        return answer if is_certain(answer) else None


def is_certain(answer: httpx.Response) -> bool:
    """Tell whether a repetition could have another answer; fail where none should be given."""
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    if answer.status_code < 400:
        return True
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    if answer.status_code == 503:
        assert answer.json()["code"] == "unavailable", answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        return False
    return bool(answer.json()["code"] != "in_progress")
