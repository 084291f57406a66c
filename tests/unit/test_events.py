"""Each event, notice and hint is defined once; what is written about them elsewhere fits."""

import re
from typing import Any

import pytest
from django.conf import settings
from jsonschema import Draft202012Validator

from sessions_app.events import Event, EventType, Frame, Hint, Notice, Producer
from sessions_app.models import Attempt
from sessions_app.worker.output_writer import OutputWriter

FRAMES: list[type[Frame]] = [
    frame for kind in (Event, Notice, Hint) for frame in kind.registry.values()
]


def rows(heading: str) -> dict[str, set[str]]:
    """Return the names in the first column of a table of docs/streams.md, each with its row's."""
    text = (settings.BASE_DIR / "docs" / "streams.md").read_text()
    table = text.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    found = {}
    for line in table.splitlines()[2:]:
        first, _, others = line.strip("| ").partition("|")
        for name in re.findall("`([^`]+)`", first):
            found[name] = set(re.findall("`([^`]+)`", others))
    return found


def test_every_event_has_a_name_in_the_code() -> None:
    assert set(EventType.values) == set(Event.registry)


def test_the_console_handles_events_by_the_names_of_their_classes() -> None:
    scripts = settings.BASE_DIR / "sessions_app" / "static" / "sessions_app" / "console"
    methods = re.findall(r"^  (?:async )?on([A-Z]\w+)\(", (scripts / "live.js").read_text(), re.M)
    assert len(methods) == 19
    assert set(methods) <= {event.__name__ for event in Event.registry.values()}


def test_the_panel_that_tries_a_profile_handles_events() -> None:
    scripts = settings.BASE_DIR / "profiles_app" / "static" / "profiles_app" / "console"
    text = (scripts / "try.js").read_text().split("const handlers = {")[1].split("\n  };")[0]
    names = re.findall(r'^    "?([a-z_:]+)"?: \(', text, re.M)
    assert len(names) == 10
    assert set(names) <= set(Event.registry)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.meta.name)
def test_its_example_fits(frame: type[Frame]) -> None:
    schema = frame.schema()
    Draft202012Validator.check_schema(schema)
    for example in schema.get("examples", []):
        Draft202012Validator(schema).validate(example)


@pytest.mark.parametrize(
    ("heading", "frames", "given"),
    [
        ("event | data", Event.registry, set()),
        ("hint | data, beside `sessionId`", Hint.registry, {"sessionId", "lastEventId"}),
    ],
)
def test_the_documentation_names_it_and_all_its_fields(
    heading: str, frames: dict[str, Any], given: set[str]
) -> None:
    written = rows(heading)
    wanted = {
        name: set(frame.schema()["properties"]) - given
        for name, frame in frames.items()
        # The feed has these two as well as a stream.
        if name not in Notice.registry
    }
    assert set(written) == set(wanted)
    missing = {name: fields - written[name] for name, fields in wanted.items()}
    assert {name: fields for name, fields in missing.items() if fields} == {}


def test_the_documentation_names_every_notice() -> None:
    assert set(Notice.registry) <= set(rows("notice | when"))


@pytest.mark.parametrize(
    "name", [name for name, event in Event.registry.items() if event.meta.hint_fields]
)
def test_its_hint_has_what_it_repeats(name: str) -> None:
    event = Event.registry[name]
    assert event.meta.hint
    hinted = set(event.meta.hint.schema()["properties"])
    assert {*event.meta.hint_fields, *event.meta.hint_implies} <= hinted
    assert set(event.meta.hint_fields.values()) <= set(event.schema()["properties"])


def test_an_engine_writes_no_event_of_the_services() -> None:
    output = OutputWriter().open(Attempt("session", "run", 1))
    for name, event in Event.registry.items():
        if event.meta.producer == Producer.SERVICE:
            with pytest.raises(ValueError, match=name):
                output.emit(name, {})
    assert output.take() == []
