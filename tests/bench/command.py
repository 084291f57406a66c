"""`python -m tests.bench`: measure the daemon beside the floors that it stands on."""

import json
import math
import sys
from argparse import ArgumentTypeError
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from amplifierd.postgres import PostgresError, leaving_on_signals
from tests.bench import (
    engine,
    fill,
    footprint,
    goal_table,
    goals,
    limits,
    lists,
    operations,
    scale,
    streams,
)
from tests.bench.client import BenchError
from tests.bench.daemon import Daemon, daemon
from tests.bench.load import Figures, Measured
from tests.bench.operations import measure_first_content
from tests.bench.report import (
    Report,
    as_json,
    conditions,
    describe_failures,
    print_tables,
    render_page,
)

PARTS = ("goals", "limits", "requests", "lists", "streams", "scale", "footprint", "engine")
# There are many lists: each is measured for so much less of the time.
LIST_SHARE = 3
# Runs at once are watched for so many times as long: what is slow shows only after a while.
RUN_SHARE = 3


class Command(BaseCommand):
    help = (
        "Measure a daemon that is started for it, on a data folder that is thrown away, beside a"
        " bare hello and a bare INSERT. Your own data and daemon are left alone."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--seconds", type=positive(float), default=3.0, help="for each measurement (3)"
        )
        parser.add_argument(
            "--sessions", type=positive(int), default=100, help="that the daemon has (100)"
        )
        parser.add_argument(
            "--connections", type=positive(int), default=4, help="at the same time (4)"
        )
        parser.add_argument(
            "--web", type=positive(int), default=1, help="web processes of the daemon (1)"
        )
        parser.add_argument(
            "parts",
            nargs="*",
            metavar="PART",
            help=f"measure these parts alone: {', '.join(PARTS)} (all)",
        )
        parser.add_argument(
            "--only",
            type=goal_keys,
            default=goal_table.KEYS,
            metavar="ROWS",
            help=f"of the goals, measure these alone: {','.join(goal_table.KEYS)} (all)",
        )
        parser.add_argument(
            "--profile",
            action="store_true",
            help="of the goals, also tell in which functions the time is spent",
        )
        parser.add_argument("--write", type=Path, metavar="FILE", help="write a page of Markdown")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if unknown := set(options["parts"]) - set(PARTS):
            raise CommandError(f"There is no part {', '.join(unknown)}: {', '.join(PARTS)}.")
        try:
            with leaving_on_signals():
                report = self.measure(options)
        except KeyboardInterrupt:
            raise CommandError("Interrupted; the daemon is gone.", returncode=130) from None
        if report.failed.keys() >= {*(options["parts"] or PARTS)}:
            # A page with nothing in it would replace one that has something.
            raise CommandError("\n".join(["Nothing was measured.", *describe_failures(report)]))
        if options["write"]:
            options["write"].write_text(render_page(report))
        if options["json"]:
            self.stdout.write(json.dumps(as_json(report), indent=2))
        else:
            print_tables(report, Console(file=sys.stdout, highlight=False, markup=False))
        if report.failed:
            raise CommandError("\n".join(describe_failures(report)))

    def measure(self, options: dict[str, Any]) -> Report:
        """Measure what was asked for, each part on daemons of its own, and remove the daemons.

        A part that fails leaves the others.
        """
        chosen = ("connections", "web", "seconds", "sessions")
        report = Report(conditions(**{name: options[name] for name in chosen}))
        for part in options["parts"] or PARTS:
            try:
                report = replace(report, **getattr(self, f"measure_{part}")(report, options))
            except (BenchError, PostgresError, psycopg.Error, psutil.Error, OSError) as error:
                # What has taken minutes to measure is not thrown away.
                report.failed[part] = str(error)
        return report

    def measure_goals(self, report: Report, options: dict[str, Any]) -> dict[str, Any]:
        """Measure the rows of the table of goals, on daemons as anyone starts them."""
        chosen = (options["only"], options["seconds"], self.say, options["profile"])
        return {"goals": goals.measure_goals(*chosen)}

    def measure_limits(self, report: Report, options: dict[str, Any]) -> dict[str, Any]:
        """Measure where the daemon is full, and what ten times as much costs."""
        seconds = options["seconds"]
        full = limits.measure_full(seconds, self.say)
        return {"full": full, "grown": limits.measure_grown(seconds, self.say)}

    def measure_requests(self, report: Report, options: dict[str, Any]) -> dict[str, Any]:
        """Measure requests and the first content beside the operations."""
        self.say("Starting a daemon on a new database")
        with daemon(options["web"]) as target:
            report.conditions["PostgreSQL"] = target.postgres_version
            return self.measure_operations(target, options)

    def measure_lists(self, report: Report, options: dict[str, Any]) -> dict[str, Any]:
        """Measure lists with few sessions and with many, the console, and what searching costs."""
        self.say("Starting a daemon without a worker")
        with daemon(options["web"], AMPLIFIERD_WORKERS="0") as target:
            report.conditions["PostgreSQL"] = target.postgres_version
            seconds, connections = options["seconds"], options["connections"]
            share, origin = seconds / LIST_SHARE, fill.make_origin(target, lists.BASE)
            found = lists.measure_growth(target, origin, share, self.say)
            number = lists.SIZES[-1] + 1
            pages = lists.measure_console(target, origin, number, share, self.say)
            written = lists.measure_writes(target, connections, seconds, self.say)
        return {"growth": found, "console": pages, "writes": written}

    def measure_streams(self, report: Report, options: dict[str, Any]) -> dict[str, Any]:
        """Measure streams, the rescue of a run and its cancel."""
        return {"streams": streams.measure_streams(options["seconds"], self.say)}

    def measure_scale(self, report: Report, options: dict[str, Any]) -> dict[str, Any]:
        """Measure a crowd of idle streams, and a session of a hundred thousand events."""
        return {"scale": scale.measure_scale(options["seconds"], self.say)}

    def measure_footprint(self, report: Report, options: dict[str, Any]) -> dict[str, Any]:
        """Measure the bytes of rows and answers, connections, and notifications."""
        return {"footprint": footprint.measure_footprint(options["seconds"], self.say)}

    def measure_engine(self, report: Report, options: dict[str, Any]) -> dict[str, Any]:
        """Measure what a token costs, how many runs a worker holds, and approvals."""
        self.say("Starting a daemon with a worker")
        with daemon(options["web"], **engine.SETTINGS) as target:
            report.conditions["PostgreSQL"] = target.postgres_version
            seconds = RUN_SHARE * options["seconds"]
            return {"engine": engine.measure_engine(target, seconds, self.say)}

    def measure_operations(self, target: Daemon, options: dict[str, Any]) -> dict[str, Any]:
        """Measure the floors, then the operations, then the stream."""
        seconds, connections = options["seconds"], options["connections"]
        self.say("Filling in sessions")
        fill.add_copies(target, fill.make_origin(target), 1, options["sessions"])
        sessions = fill.active_sessions(target)
        operations.write_transcripts(target, sessions)

        self.say("Measuring the floors")
        hello, alone = operations.measure_hello(connections, seconds)
        insert = operations.measure_insert(target.conninfo, connections, seconds)
        bases = {floor.name: floor for floor in (hello, alone, insert)}

        measured = []
        for operation in operations.operations(sessions):
            self.say(f"Measuring {operation.name}")
            figures = operations.measure(operation, target, connections, seconds)
            measured.append(Measured(figures, bases[operation.floor], hello))
        self.say("Measuring the stream")
        first = measure_first_content(target, sessions[0], seconds)
        return {
            "floors": [hello, alone, insert],
            "operations": measured,
            "first_content": beside(first, alone),
        }

    def say(self, line: str) -> None:
        """Tell a person who waits what is going on; a pipe gets the report alone."""
        if self.stderr.isatty():
            self.stderr.write(f"{line} …", lambda text: text)


def beside(figures: Figures, floor: Figures) -> Measured:
    """Return the figures beside one floor for all of them."""
    return Measured(figures, floor, floor)


def goal_keys(text: str) -> list[str]:
    """Return the rows of the table of goals that an argument names."""
    keys = text.split(",")
    if unknown := [key for key in keys if key not in goal_table.KEYS]:
        raise ArgumentTypeError(f"there is no row {', '.join(unknown)}")
    return keys


def positive(kind: type[int] | type[float]) -> Any:
    """Return a parser of numbers above zero, for an argument."""

    def parse(text: str) -> int | float:
        value = kind(text)
        # Also refuses nan, which is above nothing.
        if not 0 < value < math.inf:
            raise ArgumentTypeError("must be a number above 0")
        return value

    return parse
