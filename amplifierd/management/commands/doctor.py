"""`manage.py doctor`: what is wrong with this installation, and what to do."""

from argparse import ArgumentParser
from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError
from rich.padding import Padding
from rich.text import Text

from amplifierd.common.command import ConsoleCommand
from amplifierd.doctor import Finding, Level, examine
from sessions_app.cli.output import one_line, put, put_json

STYLES = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.ERROR: ("✗", "red")}
# Cells of a topic; the longest one has 11.
TOPIC = 12


class Command(ConsoleCommand):
    help = (
        "Look at all that the daemon needs: what is wrong, and what to do. Changes nothing; exit 1 "
        "if something does not work."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", dest="as_json", help="JSON, a line for each finding"
        )

    def handle(self, *args: Any, as_json: bool, **options: Any) -> None:
        levels: Counter[Level] = Counter()
        for finding in examine():
            levels[finding.level] += 1
            if as_json:
                put_json(self.screen, asdict(finding))
            else:
                self._print(finding)
        summary = f"{_count(levels[Level.ERROR], 'error')}, " + _count(
            levels[Level.WARNING], "warning"
        )
        if levels[Level.ERROR]:
            raise CommandError(f"{summary}: do what is said of each, then look again.")
        put(self.notes, f"{summary}." if levels[Level.WARNING] else "All is well.")

    def _print(self, finding: Finding) -> None:
        if not self.screen.is_terminal:
            values = (finding.level, finding.topic, finding.says, finding.todo)
            put(self.screen, "\t".join(map(one_line, values)))
            return
        sign, style = STYLES[finding.level]
        line = Text(f"{sign} ", style)
        line.append(f"{finding.topic:<{TOPIC}}", "bold")
        self.screen.print(line + Text(one_line(finding.says)), overflow="fold")
        if finding.todo:
            todo = Text(finding.todo, style)
            self.screen.print(Padding(todo, (0, 0, 0, TOPIC + 2)), overflow="fold")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
