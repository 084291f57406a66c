"""`manage.py doctor`: what is wrong with this installation, and what to do."""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError
from django.db import Error
from rich.padding import Padding
from rich.text import Text

from amplifierd.common.command import ConsoleCommand
from amplifierd.doctor import CheckResult, Level, database, error, machine, reach
from sessions_app.cli.output import one_line, put, put_json

Check = Callable[[], Iterator[CheckResult]]

# The checks that need no database, and those that do.
BEFORE: tuple[Check, ...] = (
    machine.python,
    machine.packages,
    machine.extensions,
    machine.home,
    machine.disk,
    machine.model,
    machine.commands,
    reach.port,
    reach.address,
    reach.proxies,
)
WITH_DATABASE: tuple[Check, ...] = (
    database.migrations,
    database.protections,
    database.clock,
    database.connections,
    database.epoch,
    database.workers,
    database.queue,
    database.leases,
    machine.variables,
    reach.outbound,
    reach.api_keys,
)
STYLES = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.ERROR: ("✗", "red")}
# Columns of a topic; the longest one has 11.
TOPIC = 12


class Command(ConsoleCommand):
    help = (
        "Check all that the daemon needs: what is wrong, and what to do. Changes nothing; exit 1 "
        "if something does not work."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", dest="as_json", help="JSON, a line for each finding"
        )

    def handle(self, *args: Any, as_json: bool, **options: Any) -> None:
        levels: Counter[Level] = Counter()
        for result in run_checks():
            levels[result.level] += 1
            if as_json:
                put_json(self.screen, asdict(result))
                continue
            if not self.screen.is_terminal:
                values = (result.level, result.topic, result.says, result.todo)
                put(self.screen, "\t".join(map(one_line, values)))
                continue
            sign, style = STYLES[result.level]
            line = Text(f"{sign} ", style)
            line.append(f"{result.topic:<{TOPIC}}", "bold")
            self.screen.print(line + Text(one_line(result.says)), overflow="fold")
            if result.todo:
                todo = Text(result.todo, style)
                self.screen.print(Padding(todo, (0, 0, 0, TOPIC + 2)), overflow="fold")
        summary = f"{_count(levels[Level.ERROR], 'error')}, " + _count(
            levels[Level.WARNING], "warning"
        )
        if levels[Level.ERROR]:
            raise CommandError(f"{summary}: do what each line asks for, then run this again.")
        put(self.notes, f"{summary}." if levels[Level.WARNING] else "Everything works.")


def run_checks() -> Iterator[CheckResult]:
    """Yield the results of all checks, one after the other; nothing is changed.

    An embedded database that exists and does not run is started for this time.
    """
    for check in BEFORE:
        yield from check()
    with database.open_database() as result:
        yield result
        if result.level is Level.ERROR or result is database.NOT_MADE:
            return
        for check in WITH_DATABASE:
            try:
                yield from check()
            except Error as failure:
                says = f"could not be checked: {str(failure).partition(chr(10))[0]}"
                yield error(check.__name__, says, "Correct first what is wrong with the database.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
