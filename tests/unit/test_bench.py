"""The bench: its arithmetic, its client's parsing, and its report."""

import io
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import goal_table, goals, limits
from tests.bench.client import BenchError, Client, Response, Streams, check_status, frames, stream
from tests.bench.command import Command
from tests.bench.daemon import environment, read_port, read_tail
from tests.bench.lists import Growth, Size, Written
from tests.bench.load import Figures, Load, Measured, drive, percentile, repeat
from tests.bench.operations import TRANSCRIPTS, operations, wait_for
from tests.bench.plans import condense
from tests.bench.profile import Profile
from tests.bench.report import BUSY, Report, as_json, print_tables, render_page, sections
from tests.bench.tables import format_ratio, is_text, plain_table


def figures(
    name: str, rate: float = 100.0, cpu: float | None = 2.0, client: float = 0.25
) -> Figures:
    return Figures(name, count=50, rate=rate, p50=4.0, p95=8.0, p99=10.0, cpu=cpu, client=client)


@pytest.fixture
def report() -> Report:
    hello, insert = figures("hello", 400.0, cpu=0.5), figures("INSERT", 200.0, cpu=None)
    return Report(
        {"cores": 2, "load before": 0.1},
        floors=[hello, insert],
        operations=[Measured(figures("append"), insert, hello)],
        first_content=Measured(figures("first content"), hello, hello),
    )


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.501, 51), (0.95, 95), (0.99, 99), (1.0, 100)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected


def test_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.0], share) for share in (0.5, 0.99)] == [7.0, 7.0]


def test_figures_are_per_second_and_in_milliseconds() -> None:
    load = Load([0.001, 0.002, 0.003, 0.1], elapsed=2.0, server_cpu=0.02, client_cpu=0.5)
    found = Figures.of("get", load)
    assert (found.count, found.rate, found.client) == (4, 2.0, 0.25)
    assert (found.p50, found.p95, found.p99, found.cpu) == (2.0, 100.0, 100.0, 5.0)


def test_figures_without_a_server_have_no_processor_time() -> None:
    assert Figures.of("INSERT", Load([0.001], 1.0, None, 0.1)).cpu is None


def test_every_call_is_made_though_the_time_is_up() -> None:
    assert repeat([lambda: 0.2, lambda: 0.1], seconds=0.0) == [0.1, 0.2]


def test_processor_time_is_that_of_the_load_without_its_warming_up() -> None:
    readings = iter([5.0, 7.5])
    assert drive([lambda: 0.1], 0.01, lambda: next(readings)).server_cpu == 2.5


def test_exception_of_a_call_ends_the_load() -> None:
    def refuse() -> float:
        raise BenchError("refused")

    with pytest.raises(BenchError, match="refused"):
        repeat([refuse], seconds=60.0)


class Server(ThreadingHTTPServer):
    """Answers with what it was asked, keeps connections, and streams two frames at /stream."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for part in (b"event: one\nda", b"ta: 1\n\nevent: two\ndata: 2\n\n", b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        told = [self.command, self.path, self.headers.get("content-type"), body.decode()]
        answer = json.dumps(told).encode()
        self.send_response(404 if self.path == "/absent" else 201)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_requests_of_every_method_go_over_one_connection(server: Server) -> None:
    sent = [("POST", {"a": 1}, '{"a": 1}'), ("GET", None, ""), ("PATCH", [], "[]")]
    sent += [("DELETE", None, ""), ("POST", None, ""), ("GET", None, "")]
    with Client(server.server_port) as client:
        for method, data, body in sent:
            told = client.send(method, "/x", data, 201).json()
            assert (told[0], told[3]) == (method, body)
            assert told[2] == "application/json"
    assert server.connections == 1


def test_server_that_is_not_there_is_an_error_of_the_connection(server: Server) -> None:
    with pytest.raises(ConnectionError), Client(1) as client:
        client.ask("GET", "/")


def test_stream_is_read_to_its_end(server: Server) -> None:
    assert list(stream(server.server_port, "/stream")) == [("one", b"1"), ("two", b"2")]


def test_many_streams_are_read_by_one_thread(server: Server) -> None:
    come: dict[int, bytes] = defaultdict(bytes)
    ended: set[int] = set()

    def take(number: int, data: bytes) -> None:
        come[number] += data
        if not data:
            ended.add(number)

    with Streams(server.server_port) as streams:
        for number in range(20):
            streams.open("/stream", partial(take, number))
        streams.read_until(lambda: len(ended) == 20)
    assert set(come.values()) == {b"event: one\ndata: 1\n\nevent: two\ndata: 2\n\n"}


def test_stream_that_is_refused_is_an_error(server: Server) -> None:
    with pytest.raises(BenchError, match="/absent: 404"):
        list(stream(server.server_port, "/absent"))


def test_unexpected_status_is_an_error_with_what_was_said() -> None:
    with pytest.raises(BenchError, match="append answered 409 instead of 201: not active"):
        check_status(Response(409, b"not active"), 201, "append")


def test_frames_are_found_however_they_are_cut() -> None:
    text = b'id: 1\nevent: content\ndata: {"a": ": "}\n\nevent: keepalive\ndata: {}\n\n'
    whole = [("content", b'{"a": ": "}'), ("keepalive", b"{}")]
    for cut in range(len(text)):
        assert list(frames(iter([text[:cut], text[cut:]]))) == whole


def test_failed_run_is_an_error_and_no_wait() -> None:
    with pytest.raises(BenchError, match="no key"):
        wait_for("content", iter([("connected", b"{}"), ("execution_error", b"no key")]))


def test_end_of_the_stream_is_an_error() -> None:
    with pytest.raises(BenchError, match="ended before content"):
        wait_for("content", iter([("connected", b"{}")]))


@pytest.mark.parametrize("count", [1, TRANSCRIPTS, TRANSCRIPTS + 1])
def test_every_operation_has_a_path_however_few_the_sessions(count: int) -> None:
    found = operations(["session_1"] * count)
    assert found and all(operation.paths for operation in found)


def test_a_plan_is_what_it_reads_and_its_time() -> None:
    index = {
        "Node Type": "Index Scan",
        "Index Name": "run_open",
        "Relation Name": "sessions_app_run",
        "Actual Rows": 0.5,
        "Actual Loops": 50,
    }
    table = {
        "Node Type": "Seq Scan",
        "Relation Name": "sessions_app_session",
        "Actual Rows": 1000,
        "Actual Loops": 2,
    }
    plan = {"Plan": {"Node Type": "Limit", "Plans": [table, index]}, "Execution Time": 1.25}
    assert condense(plan) == "Seq Scan session: 2,000; Index Scan run_open: 25 (1.2 ms)"


def test_daemon_to_be_measured_knows_nothing_of_the_users_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://production/")
    monkeypatch.setenv("AMPLIFIERD_ROOT", "/srv/work")
    monkeypatch.setenv("AMPLIFIERD_HOME", "/home/someone/.amplifierd")
    found = environment(tmp_path, 2)
    # Empty, not absent: a .env file may name them as well.
    assert (found["DATABASE_URL"], found["AMPLIFIERD_ROOT"]) == ("", "")
    assert (found["AMPLIFIERD_HOME"], found["AMPLIFIERD_WEB"]) == (str(tmp_path), "2")


def test_port_is_unknown_until_the_daemon_has_noted_it(tmp_path: Path) -> None:
    assert read_port(tmp_path) is None
    (tmp_path / "serve.lock").write_text("")
    assert read_port(tmp_path) is None
    (tmp_path / "serve.lock").write_text('{"pid": 1, "url": "http://127.0.0.1:4711"}')
    assert read_port(tmp_path) == 4711


def test_log_is_shown_by_its_end(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    assert read_tail(log) == ""
    log.write_text("first line\n" + "x" * 3000 + "last line")
    assert read_tail(log).endswith("last line")
    assert "first line" not in read_tail(log)


@pytest.mark.parametrize(
    ("figure", "floor", "expected"),
    [(50.0, 200.0, "50.0 (0.25x)"), (50.0, None, "50.0"), (None, 1.0, "-"), (50.0, 0.0, "50.0")],
)
def test_figure_is_shown_with_its_ratio(
    figure: float | None, floor: float | None, expected: str
) -> None:
    assert format_ratio(figure, floor, ".1f") == expected


def test_plain_table_has_names_to_the_left_and_figures_to_the_right() -> None:
    assert plain_table(["what", "per s"], [["get", "1,000"], ["append", "-"]]) == [
        "what    per s",
        "get     1,000",
        "append      -",
    ]


def test_column_of_figures_is_told_from_one_of_names() -> None:
    rows = [["get", "12 (0.1x)"], ["put", "-"]]
    assert [is_text(column, rows) for column in (0, 1)] == [True, False]


@pytest.mark.parametrize("terminal", [True, False])
def test_report_shows_every_operation_beside_its_floor(report: Report, terminal: bool) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120, highlight=False)
    print_tables(report, console)
    [line] = [line for line in output.getvalue().splitlines() if "append" in line]
    for part in ("100 (0.50x)", "4.00 (1.00x)", "8.00 (1.00x)", "2.00 (4.00x)", "INSERT"):
        assert part in line
    assert "400 hello/s with 25% of a core" in output.getvalue()
    assert "first content" in output.getvalue()


@pytest.mark.parametrize(("count", "warned"), [(99, True), (100, False)])
def test_p99_of_few_messages_is_marked(count: int, warned: bool) -> None:
    first = replace(figures("first content"), count=count)
    hello = figures("hello")
    output = io.StringIO()
    found = Report({"cores": 2, "load before": 0.0}, first_content=Measured(first, hello, hello))
    print_tables(found, Console(file=output, width=200))
    assert ("the slowest of them" in output.getvalue()) is warned


@pytest.mark.parametrize(("load", "busy"), [(0.9, False), (1.0, True), (7.5, True)])
def test_figures_of_a_busy_machine_are_marked(load: float, busy: bool) -> None:
    output = io.StringIO()
    print_tables(Report({"cores": 2, "load before": load}), Console(file=output))
    assert ("busy before the run" in output.getvalue()) is busy


@pytest.fixture
def grown() -> Report:
    sizes = [
        Size(100, figures("by status"), ["Seq Scan session: 100 (0.1 ms)"]),
        Size(10_000, figures("by status"), ["Index Scan session_by_status: 51 (0.2 ms)"]),
    ]
    written = Written(figures("append", 90.0), figures("append", 100.0))
    return Report(
        {"cores": 2, "load before": 0.0},
        growth=[Growth("/sessions/?status=active", sizes)],
        console=[figures("its journal of 10,000 events")],
        writes=[written],
    )


def test_growth_is_compared_with_the_first_size(grown: Report) -> None:
    output = io.StringIO()
    print_tables(grown, Console(file=output, width=200))
    assert "10,000 sessions" in output.getvalue()
    assert "4.0 / 8.0 (1.00x)" in output.getvalue()
    assert "90%" in output.getvalue()
    assert "its journal of 10,000 events" in output.getvalue()


def test_the_page_has_every_table_and_the_plan_of_each_list(grown: Report) -> None:
    page = render_page(grown)
    assert "| by status | 4.0 / 8.0 (1.00x) | 4.0 / 8.0 (1.00x) |" in page
    assert "| append | 90 | 8.0 | 100 | 8.0 | 90% |" in page
    assert "  - Index Scan session_by_status: 51 (0.2 ms)" in page
    assert BUSY not in page


def test_the_page_says_that_the_machine_was_busy(grown: Report) -> None:
    grown.conditions["load before"] = 1.0
    assert BUSY in render_page(grown)


def test_json_has_the_ratios_to_the_named_floor(report: Report) -> None:
    [append] = json.loads(json.dumps(as_json(report)))["operations"]
    assert append["floor"] == "INSERT"
    assert append["ratios"] == {"rate": 0.5, "p50": 1.0, "p95": 1.0, "p99": 1.0, "cpu": 4.0}


def test_goals_stand_beside_what_was_measured() -> None:
    found = {
        "get": [goal_table.Figure(2.0)],
        "appends": [
            goal_table.Figure(700.0),
            goal_table.Figure(951.2),
            goal_table.Figure(900.0, 2.5),
        ],
        "page": [goal_table.Figure(21.0, 20.0)],
    }
    failed = {"pace": "A run failed."}
    report = Report(
        {"cores": 2, "load before": 0.0},
        goals=goal_table.Goals(found, failed, hellos=dict.fromkeys(found, 0.5)),
    )
    page = render_page(report)
    assert "| - | - | 3.8 (16 x) | ≤ 5 x hello | 2 (4 x) | yes | - | - |" in page
    assert "| 650 · 950 · 1,200 | 700 · 951 · 900 | no | 1,458 · 1,982 · 1,875: yes |" in page
    assert "| ≤ 25 | 21.0 | yes | 10.1: yes | 20.0 (40.0 x) |" in page
    assert "pace was not measured: A run failed." in page
    assert json.loads(json.dumps(as_json(report)))["goals"]["hellos"]["get"] == 0.5


def test_every_row_of_the_goals_can_be_measured() -> None:
    keys = set(goal_table.KEYS)
    assert keys == {*goals.SHARED, *goals.SIZED, *goals.OWN}
    assert all(callable(getattr(goals.Rows, key)) for key in goals.SHARED)


def test_a_row_that_fails_leaves_the_others() -> None:
    def fail() -> list[goal_table.Figure]:
        raise BenchError("no answer")

    found = goal_table.Goals()
    found.note("get", fail)
    found.note("page", lambda: [goal_table.Figure(1.0)])
    assert (found.failed, found.found) == ({"get": "no answer"}, {"page": [(1.0, None)]})


def test_a_profile_tells_where_time_is_spent_and_not_what_only_passes_it_on() -> None:
    profile = Profile("Profile of get: web")
    for line in ("main (a.py);run (a.py);read (b.py) 60", "main (a.py);run (a.py);write (b.py) 40"):
        profile.add(line)
    found = profile.section()
    assert found.rows == [
        ["`run (a.py)`", "100%", "0%"],
        ["`read (b.py)`", "60%", "60%"],
        ["`write (b.py)`", "40%", "40%"],
    ]
    assert "100 looks" in found.notes[0]
    report = Report({}, goals=goal_table.Goals(profiles=[profile]))
    assert json.loads(json.dumps(as_json(report)))["goals"]["profiles"][0]["total"] == 100


def test_a_daemon_that_is_full_is_told_with_who_uses_the_cores() -> None:
    full = [limits.Full("get", web, 500.0 * web, 1.5, 0.25, 0.1) for web in limits.WEB]
    [section] = sections(Report({}, full=full))
    assert section.rows == [
        ["get", "500 (1.5, 0.2, 0.1)", "1,000 (1.5, 0.2, 0.1)", "2,000 (1.5, 0.2, 0.1)"]
    ]


def test_what_ten_times_as_much_costs_is_a_ratio_for_each_figure() -> None:
    grown = limits.Grown("sse", [goal_table.Figure(2.0)], [goal_table.Figure(3.0)])
    report = Report({}, grown=[grown])
    assert sections(report)[0].rows == [["sse", "2", "3", "1.50"]]
    assert json.loads(json.dumps(as_json(report)))["grown"][0]["key"] == "sse"


def test_a_part_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict[str, object]:
        raise BenchError("no daemon")

    full = [limits.Full("get", web, 500.0, 1.5, 0.25, 0.1) for web in limits.WEB]
    monkeypatch.setattr(Command, "measure_engine", fail)
    monkeypatch.setattr(Command, "measure_limits", lambda *_: {"full": full})
    options = {"connections": 4, "web": 1, "seconds": 1.0, "sessions": 100}
    report = Command().measure({**options, "parts": ["engine", "limits"]})
    assert report.full == full
    assert "- **engine was not measured: no daemon**" in render_page(report)
