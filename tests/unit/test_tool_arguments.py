"""The arguments of a call, put right where it is clear what was meant."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from sessions_app.engine.calls import parse_arguments
from sessions_app.engine.tools.arguments import coerce_arguments
from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.functions import make_tool, parse_docstring
from tests.harness.mcp_tools import SERVERS, bare, opened, run

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "flag": {"type": "boolean"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
        "names": {"type": "array", "items": {"type": "string"}},
        "options": {"type": "object", "properties": {"depth": {"type": "integer"}}},
        "kind": {"enum": ["a", "b"]},
        "level": {"enum": [1, 2]},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"type": ["string", "integer"]},
        "list_or_text": {
            "anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]
        },
        "free": {},
    },
    "additionalProperties": False,
    "$defs": {
        "Item": {
            "type": "object",
            "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}},
            "required": ["n"],
        }
    },
}


def coerce(**given: Any) -> dict[str, Any]:
    return coerce_arguments(given, SCHEMA)


def refusal(given: Any, schema: dict[str, Any] = SCHEMA) -> str:
    with pytest.raises(ToolError) as caught:
        coerce_arguments(given, schema)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "given", "fitting"),
    [
        ("count", "5", 5),
        ("count", " -5 ", -5),
        ("count", 5.0, 5),
        ("count", "5.0", 5),
        ("ratio", "0.5", 0.5),
        ("ratio", "1e3", 1000.0),
        ("ratio", "7", 7),
        ("flag", "true", True),
        ("flag", "False", False),
        ("items", '[{"n": 1}, {"n": "2", "ok": "true"}]', [{"n": 1}, {"n": 2, "ok": True}]),
        ("items", ['{"n": 1}'], [{"n": 1}]),
        ("items", '"[{\\"n\\": 1}]"', [{"n": 1}]),
        ("names", '["a", "5"]', ["a", "5"]),
        ("names", [5], ["5"]),
        ("options", '{"depth": "3"}', {"depth": 3}),
        ("options", "", {}),
        ("level", "2", 2),
        ("kind", " a ", "a"),
        ("maybe", "5", 5),
        ("maybe", None, None),
        ("maybe", "null", None),
        ("maybe", "", None),
        ("text", 5, "5"),
        # What fits stays as it is.
        *(("text", given, given) for given in ("5", "true", "null", "", '{"a": 1}', "[1]", " x ")),
        *(("either", given, given) for given in ("5", 5, "null")),
        *(("list_or_text", given, given) for given in ("[1]", "a", [1])),
        ("list_or_text", ["1"], [1]),
        *(("free", given, given) for given in ("5", None, [1], {"a": "1"}, True)),
    ],
)
def test_what_is_clear_is_put_right(name: str, given: Any, fitting: Any) -> None:
    found = coerce(**{name: given})
    # To Python, 1 and true are the same.
    assert json.dumps(found) == json.dumps({name: fitting})


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '""', '"{}"', '"[]"'])
def test_no_arguments_are_an_empty_object_however_they_are_written(text: str) -> None:
    assert parse_arguments(text) == {}


@pytest.mark.parametrize("text", ["[1]", "[{}]", "0", "false", '"a"', "{"])
def test_what_is_no_object_is_not_taken_for_one(text: str) -> None:
    assert parse_arguments(text) is None


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *((name, None) for name in ("text", "count", "flag", "items", "options", "kind", "level")),
        *((name, "null") for name in ("count", "ratio", "flag", "items", "level")),
        *((name, "") for name in ("count", "flag", "items", "level")),
        ("count", "None"),
        ("unknown", None),
    ],
)
def test_nothing_is_left_out_where_nothing_is_required(name: str, given: Any) -> None:
    assert coerce(**{name: given}) == {}


@pytest.mark.parametrize("given", ["", "  ", None, {}, "{}", '""', '"{}"', "null"])
def test_no_arguments_may_be_said_in_many_ways(given: Any) -> None:
    assert coerce_arguments(given, {"type": "object", "properties": {}}) == {}
    assert coerce_arguments(given, {}) == {}


@pytest.mark.parametrize("given", ['{"count": "5"}', '"{\\"count\\": 5}"', {"count": 5}])
def test_arguments_may_come_as_text(given: Any) -> None:
    assert coerce_arguments(given, SCHEMA) == {"count": 5}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"count": "many"}, '`count` must be a whole number, not the text "many"'),
        ({"count": 1.5}, "`count` must be a whole number, not 1.5"),
        ({"count": True}, "`count` must be a whole number, not true"),
        ({"count": "1,000"}, "`count` must be a whole number"),
        ({"count": []}, "`count` must be a whole number, not a list"),
        ({"ratio": "NaN"}, "`ratio` must be a number"),
        ({"ratio": "1e999"}, "`ratio` must be a number"),
        ({"flag": 1}, "`flag` must be true or false, not 1"),
        ({"flag": "yes"}, "`flag` must be true or false"),
        ({"text": {"a": 1}}, "`text` must be a text, not an object"),
        ({"text": True}, "`text` must be a text, not true"),
        ({"items": "{}"}, "`items` must be a list"),
        ({"items": "[1"}, "`items` must be a list"),
        ({"items": [{}]}, "`items[0].n` is missing: a whole number"),
        ({"items": [{"n": 1}, {"n": "x"}]}, "`items[1].n` must be a whole number"),
        ({"kind": "c"}, '`kind` must be one of "a", "b", not the text "c"'),
        ({"maybe": "x"}, "`maybe` must be a whole number"),
        ({"either": []}, "`either` must be a text or a whole number, not a list"),
        ({"cuont": 1}, "`cuont` is not known here; there are `text`, `count`"),
        ("[1]", "must be one JSON object"),
        ("5", "must be one JSON object"),
        ("{", "no valid JSON"),
        ('{"count": 1} x', "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
    ],
)
def test_what_is_wrong_is_said_by_its_name(given: Any, words: str) -> None:
    assert words in refusal(given)


def test_all_mistakes_are_told_at_once() -> None:
    said = refusal({"count": "x", "flag": "y"}, {**SCHEMA, "required": ["text", "kind"]})
    for words in (
        "`count` must",
        "`flag` must",
        "`text` is missing: a text",
        '`kind` is missing: "a"',
    ):
        assert words in said


def test_null_is_no_value_for_what_is_required() -> None:
    said = refusal({"n": None}, {"properties": {"n": {"type": "integer"}}, "required": ["n"]})
    assert "`n` must be a whole number, not null" in said


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"properties": {"a": {"$ref": "https://elsewhere.test/a"}}},
        {"properties": {"a": {"$ref": "#/nowhere"}}},
        {"properties": {"a": {"type": "strange"}}},
        {"properties": {"a": {"type": 5, "enum": "x", "anyOf": "x", "properties": []}}},
        {"properties": {"a": True}, "required": "a"},
        {"properties": None, "additionalProperties": None},
    ],
)
def test_a_schema_that_says_nothing_lets_everything_pass(schema: dict[str, Any]) -> None:
    assert coerce_arguments({"a": {"b": ["1"]}}, schema) == {"a": {"b": ["1"]}}


def test_a_schema_that_has_itself_in_it_is_followed_as_far_as_the_data_go() -> None:
    tree = {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#"}}}
    given = {"v": "1", "next": {"v": "2", "next": {"v": "3"}}}
    assert coerce_arguments(given, tree) == {"v": 1, "next": {"v": 2, "next": {"v": 3}}}


def test_a_schema_that_branches_without_end_takes_no_time() -> None:
    node: dict[str, Any] = {"anyOf": [{"items": {"$ref": "#/$defs/N"}} for _ in range(4)]}
    given: Any = "x"
    for _ in range(60):
        given = [given]
    schema = {"properties": {"a": {"$ref": "#/$defs/N"}}, "$defs": {"N": node}}
    assert coerce_arguments({"a": given}, schema) == {"a": given}


def test_data_that_are_nested_too_deeply_are_no_error_of_ours() -> None:
    given: Any = "x"
    for _ in range(900):
        given = [given]
    schema = {"properties": {"a": {"anyOf": [{"type": "array"}, {"type": "string"}]}}}
    try:
        assert coerce_arguments({"a": given}, schema) == {"a": given}
    except ToolError as error:
        assert "nested too deeply" in str(error)


@dataclass(frozen=True)
class Step:
    """A step that only the source describes."""

    title: str
    state: Literal["open", "done"] = "open"


class Work:
    async def plan(
        self, steps: list[Step], note: str | None = None, limit: int = 5, strict: bool = False
    ) -> str:
        """Plan the work.

        It may be long:
        two lines.

        Args:
            steps: What is to be done,
                in order.
            note (str): For others.
            limit: At most.
            strict: Whether: really.

        Returns:
            Nothing that a model need know.
        """
        return f"{steps} {note} {limit} {strict}"


def test_a_tool_is_made_of_a_function() -> None:
    tool = make_tool(Work().plan, idempotent=True)
    assert (tool.spec.name, tool.idempotent) == ("plan", True)
    assert tool.spec.description == "Plan the work.\n\nIt may be long:\ntwo lines."
    properties = tool.spec.parameters["properties"]
    assert properties["steps"]["description"] == "What is to be done, in order."
    assert properties["strict"] == {
        "default": False,
        "description": "Whether: really.",
        "type": "boolean",
    }
    assert properties["note"]["description"] == "For others."
    assert tool.spec.parameters["required"] == ["steps"]
    # A name of an argument is no title that is left out.
    assert "title" in tool.spec.parameters["$defs"]["Step"]["properties"]
    assert "title" not in tool.spec.parameters


def test_a_tool_is_called_with_what_was_put_right() -> None:
    tool = make_tool(Work().plan)
    fitting = tool.validate('{"steps": "[{\\"title\\": \\"a\\"}]", "limit": "7", "note": null}')
    assert fitting == {"steps": [{"title": "a"}], "limit": 7, "note": None}
    assert asyncio.run(tool.call(fitting)) == f"{[Step('a')]} None 7 False"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "`steps` is missing: a list"),
        ({"steps": [{"title": "a", "state": "gone"}]}, '`steps[0].state` must be one of "open"'),
        ({"steps": [{"titel": "a"}]}, "`steps[0].title` is missing"),
        ({"steps": [], "extra": 1}, "`extra` is not known here"),
    ],
)
def test_a_tool_refuses_what_it_cannot_use(given: Any, words: str) -> None:
    with pytest.raises(ToolError) as caught:
        make_tool(Work().plan).validate(given)
    assert words in str(caught.value)


def test_every_argument_must_be_described() -> None:
    async def bad(one: int) -> str:
        """Do it."""
        return ""

    with pytest.raises(TypeError, match="does not describe `one`"):
        make_tool(bad)


def test_a_docstring_without_arguments_is_all_description() -> None:
    assert parse_docstring("Do it.\n\nNote: this stays.") == ("Do it.\n\nNote: this stays.", {})


def test_tools_of_servers_get_the_same_care() -> None:
    import sys

    async def used() -> list[str]:
        config = {"command": sys.executable, "args": [str(SERVERS / "library.py")]}
        async with opened(config) as tools:
            return [
                await tools.call("add", one="1", other=2.0),
                await tools.call("add", one="x"),
            ]

    added, refused = run(used())
    assert json.loads(added) == {"sum": 3}
    assert "`one` must be a whole number" in refused and "`other` is missing" in refused


def test_a_tool_of_a_server_without_properties_takes_anything() -> None:
    async def used() -> str:
        async with opened(bare()) as tools:
            return await tools.call("echo", text="5", other=None)

    assert run(used()) == "5"
