"""The bench's part on the engine: its provider, its readers, its arithmetic, its tables."""

import asyncio
import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import psutil
import pytest
from rich.console import Console

from tests.bench import engine
from tests.bench.client import BenchError, frames
from tests.bench.daemon import Spent, cpu_seconds, read_family_seconds
from tests.bench.engine import TOLERANCE, EngineFigures, Held, PerToken, each, most, summarize_runs
from tests.bench.load import Figures
from tests.bench.operations import wait_for
from tests.bench.provider import SPREAD, Order, order_in, serve
from tests.bench.readers import WAYS, time_rounds
from tests.bench.report import Report, as_json, print_tables, render_page

IDLE = Spent(0.0, 0.0, 0.0)


def served(ask: Callable[[int], Awaitable[Any]]) -> Any:
    """Return what asking the bench's provider came to; it is given the port."""

    async def run() -> Any:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(serve(listener))
            try:
                return await asyncio.wait_for(ask(listener.getsockname()[1]), 60)
            finally:
                serving.cancel()

    return asyncio.run(run())


async def answer(port: int, order: Order) -> list[str]:
    """Return the pieces of text of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"messages": [{"role": "user", "content": order.message}]}).encode()
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    raw = await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    *said, last, done = re.findall(rb"^data: (.*)$", raw, re.MULTILINE)
    assert (json.loads(last)["choices"][0]["finish_reason"], done) == ("stop", b"[DONE]")
    return [json.loads(each)["choices"][0]["delta"]["content"] for each in said]


def test_the_newest_order_of_a_request_counts() -> None:
    orders = [Order(3), Order(400, 20, together=10)]
    assert order_in(" and ".join(order.message for order in orders).encode()) == orders[1]
    assert orders[1].seconds == 8.0


def test_a_request_without_an_order_gets_one_piece() -> None:
    assert order_in(b"hello") == Order(1)


@pytest.mark.parametrize("tokens", [1, 100, 250])
def test_the_provider_says_as_many_pieces_as_it_is_asked_for(tokens: int) -> None:
    assert served(lambda port: answer(port, Order(tokens))) == [" token"] * tokens


def test_runs_begin_together_and_each_piece_says_when_it_is_due() -> None:
    order = Order(3, delay_ms=10, together=2)

    async def both(port: int) -> list[list[float]]:
        answers = await asyncio.gather(answer(port, order), answer(port, order))
        return [[float(piece) for piece in pieces] for pieces in answers]

    first, second = served(both)
    assert abs(first[0] - second[0]) <= SPREAD
    for due in (first, second):
        assert [round(when - due[0], 3) for when in due] == [0.0, 0.01, 0.02]


@pytest.mark.parametrize("way", WAYS)
def test_both_ways_of_reading_come_to_every_piece(way: str) -> None:
    rounds = served(lambda port: time_rounds(WAYS[way], f"http://127.0.0.1:{port}/v1", 20, 2))
    assert [cpu > 0 and wall > 0 for cpu, wall in rounds] == [True, True]


def test_a_reader_that_misses_a_piece_measures_nothing() -> None:
    async def deaf(url: str, tokens: int) -> int:
        return tokens - 1

    with pytest.raises(SystemExit, match="19 pieces came of 20"):
        asyncio.run(time_rounds(deaf, "", 20, 1))


@pytest.mark.parametrize(
    ("url", "patience", "said"),
    [("http://127.0.0.1:1/v1", 60.0, "Connection"), ("http://127.0.0.1:1/v1", 0.0, "in time")],
)
def test_a_reader_that_fails_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, url: str, patience: float, said: str
) -> None:
    monkeypatch.setattr(engine, "READ_PATIENCE", patience)
    with pytest.raises(BenchError, match=f"(?s)by the engine.*{said}"):
        engine.read_alone("client", "the engine", url, 20)


def test_a_token_costs_the_median_of_the_rounds() -> None:
    assert each((9.0, 1.0, 2.0), 20_000) == 100.0


def test_lag_and_length_of_runs_are_told_by_when_pieces_were_due() -> None:
    pieces = [("run_1", 10.030, " 10.000 10.020"), ("run_2", 11.020, " 11.000 11.020")]
    ends = {"run_1": 10.042, "run_2": 11.080}
    found = summarize_runs(Order(2, 20, together=2), pieces, ends, Spent(0.5, 0.2, 0.1))
    assert (found.runs, found.worker, found.database, found.provider) == (2, 0.5, 0.2, 0.1)
    assert (round(found.p50), round(found.p95)) == (10, 30)
    assert round(found.stretch, 6) == 2.0
    assert round(found.rate, 2) == round((2 / 0.042 + 2 / 0.080) / 2, 2)


def test_runs_of_which_a_piece_is_missing_are_no_measurement() -> None:
    with pytest.raises(BenchError, match="1 pieces came of 2"):
        summarize_runs(Order(2, 20), [("run_1", 1.0, " 1.0")], {"run_1": 1.1}, IDLE)


def holds(runs: int, stretch: float) -> Held:
    return Held(runs, 49.9, 12.0, 25.0, stretch, worker=0.31, database=0.12, provider=0.05)


def test_the_most_runs_are_those_of_which_the_slowest_ended_in_time() -> None:
    assert most([holds(10, 1.0), holds(20, TOLERANCE), holds(50, TOLERANCE + 0.01)]) == 20
    assert most([holds(10, 2.0)]) == 0


def test_what_was_spent_is_the_difference_of_two_readings() -> None:
    assert Spent(3.0, 2.0, 1.0).since(Spent(1.0, 0.5, 0.25)) == Spent(2.0, 1.5, 0.75)


def test_processor_time_of_a_family_has_that_of_children_which_have_ended() -> None:
    own = psutil.Process()

    def of_children() -> float:
        return read_family_seconds(own) - cpu_seconds([own])

    before = of_children()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert of_children() > before + 0.02


def test_waiting_for_a_frame_gives_its_data() -> None:
    assert wait_for("run_parked", frames(iter([b"event: run_parked\ndata: {}\n\n"]))) == b"{}"


@pytest.fixture
def report() -> Report:
    costs = [
        PerToken("the provider's own client", 20_000, cpu=100.0, database=None, wall=110.0),
        PerToken("a worker", 20_000, cpu=450.0, database=30.0, wall=550.0, rows=412),
    ]
    runs = [holds(10, 1.004), holds(20, 1.2)]
    answer = Figures("run_resumed", 50, 1.0, 12.34, 23.45, 30.0, None, 0.0)
    engine = EngineFigures(costs, runs, [answer])
    return Report({"cores": 2, "load before": 0.0}, engine=engine)


def test_a_token_stands_beside_the_providers_own_client(report: Report) -> None:
    page = render_page(report)
    assert "| the provider's own client | 9,091 | 100 (1.00x) | - | 110 (1.00x) | - |" in page
    assert "| a worker | 1,818 | 450 (4.50x) | 30 | 550 (5.00x) | 412 |" in page


def test_the_page_tells_how_many_runs_a_worker_holds(report: Report) -> None:
    page = render_page(report)
    assert "| 10 | 49.9 | 12 | 25 | 100.4% | 31% | 12% |" in page
    assert "One worker holds 10 runs at 50 tokens/s" in page
    assert "with 20 it falls behind" in page
    assert "| run_resumed | 50 | 12.3 | 23.4 |" in page


def test_the_page_tells_that_the_fewest_runs_were_too_many(report: Report) -> None:
    found = replace(report, engine=replace(report.engine, held=[holds(5, 1.5)]))
    assert "holds fewer than 5 runs at 50 tokens/s" in render_page(found)


def test_the_page_tells_that_more_runs_were_not_tried(report: Report) -> None:
    runs = [holds(10, 1.0)]
    found = replace(report, engine=replace(report.engine, held=runs))
    assert "holds 10 runs at 50 tokens/s" in render_page(found)
    assert "more were not tried" in render_page(found)


def test_the_engine_is_shown_on_a_terminal_and_in_json(report: Report) -> None:
    output = io.StringIO()
    print_tables(report, Console(file=output, force_terminal=True, width=120, highlight=False))
    assert "450 (4.50x)" in output.getvalue()
    told = json.loads(json.dumps(as_json(report)))["engine"]
    assert [cost["cpu"] for cost in told["per_token"]] == [100.0, 450.0]
    assert [runs["runs"] for runs in told["held"]] == [10, 20]
