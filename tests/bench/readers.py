"""Reads a provider's answers in a process of its own: by its client, or by the engine.

`python -m tests.bench.readers WAY URL TOKENS ROUNDS` reads so many answers of so many tokens
and prints, as JSON, what each took: `[seconds of the processor, seconds]`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench.provider import MODEL, Order, describe_module

# Reads an answer of so many tokens from a URL; returns how many pieces of text came.
Read = Callable[[str, int], Awaitable[int]]

# Tokens of the answer that is read first, which loads what there is to load.
WARM = 100


async def by_client(url: str, tokens: int) -> int:
    """Read with the provider's own client and nothing around it."""
    from openai import AsyncOpenAI

    pieces = []
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": Order(tokens).message}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            if text := chunk.choices[0].delta.content:
                pieces.append(text)
    return len(pieces)


async def by_engine(url: str, tokens: int) -> int:
    """Read by the engine as a worker has it, which emits into a list."""
    from sessions_app.engine.base import Turn
    from sessions_app.engine.engines import get_engine

    events: list[tuple[str, dict[str, Any]]] = []
    turn = Turn({"providers": [describe_module(url)]}, Order(tokens).message)
    await get_engine().run(turn, lambda *event: events.append(event), asyncio.Event())
    return sum(kind == "content" for kind, _ in events)


WAYS: dict[str, Read] = {"client": by_client, "engine": by_engine}


async def time_rounds(read: Read, url: str, tokens: int, rounds: int) -> list[tuple[float, float]]:
    """Return what each round took; exit where a piece is missing."""
    await read(url, WARM)
    found = []
    for _ in range(rounds):
        cpu, started = time.process_time(), time.perf_counter()
        pieces = await read(url, tokens)
        found.append((time.process_time() - cpu, time.perf_counter() - started))
        if pieces != tokens:
            raise SystemExit(f"{pieces} pieces came of {tokens}.")
    return found


def main() -> None:
    """Read as the arguments say."""
    way, url, tokens, rounds = sys.argv[1:]
    print(json.dumps(asyncio.run(time_rounds(WAYS[way], url, int(tokens), int(rounds)))))


if __name__ == "__main__":
    main()
