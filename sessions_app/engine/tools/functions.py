"""Tools made of typed functions: the schema, the check and the description come from the source."""

import functools
import inspect
import re
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sessions_app.engine.messages import ToolSpec
from sessions_app.engine.tools.arguments import coerce_arguments
from sessions_app.engine.tools.base import Tool, ToolError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

Function = Callable[..., Awaitable[str]]

# `name: text`, or `name (type): text`, in a section of arguments.
_ARGUMENT = re.compile(r"(\w+)(?: \([^)]*\))?:\s+(.*)")
# Sections that tell a reader of the source what a model need not know.
_SECTIONS = re.compile(r"^(Args|Returns|Raises|Yields|Note|Example|Examples):\s*$", re.MULTILINE)


@dataclass(frozen=True)
class _Signature:
    spec: ToolSpec
    model: "type[BaseModel]"


def make_tool(function: Function, *, idempotent: bool = False) -> Tool:
    """Return a tool that calls a coroutine function with keyword arguments.

    Its name and parameters are the function's, with their types; what a model reads of them is its
    docstring, in Google's style, in which each parameter must be described.
    """
    signature = _describe(getattr(function, "__func__", function))

    def validate(arguments: Any) -> dict[str, Any]:
        fitting = coerce_arguments(arguments, signature.spec.parameters)
        _load(signature.model, fitting)
        return fitting

    async def call(arguments: dict[str, Any]) -> str:
        loaded = _load(signature.model, arguments)
        given = {name: getattr(loaded, name) for name in loaded.model_fields_set}
        return await function(**given)

    return Tool(signature.spec, call, validate, idempotent)


@functools.cache
def _describe(function: Function) -> _Signature:
    from pydantic import ConfigDict, Field, create_model

    description, described = parse_docstring(inspect.getdoc(function) or "")
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self":
            continue
        if name not in described:
            raise TypeError(f"{function.__qualname__}: the docstring does not describe `{name}`.")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], Field(default, description=described[name]))
    model = create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    parameters = _without_titles(model.model_json_schema())
    return _Signature(ToolSpec(function.__name__, description, parameters), model)


def parse_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return what a cleaned docstring says of all, and of each argument below `Args:`."""
    sections = _SECTIONS.split(text)
    described: dict[str, str] = {}
    for title, body in zip(sections[1::2], sections[2::2], strict=True):
        if title == "Args":
            described = dict(_parse_arguments(inspect.cleandoc(body)))
    return sections[0].strip(), described


def _parse_arguments(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        start = None if line.startswith(" ") else _ARGUMENT.match(line)
        if start:
            found.append((start[1], start[2]))
        elif found and line.strip():
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found


def _without_titles(schema: Any) -> Any:
    """Return a schema without the titles that pydantic makes of names, which tell nothing more."""
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _without_titles(each) for name, each in item.items()}
        if key in ("properties", "$defs")
        else _without_titles(item)
        for key, item in schema.items()
        # Of a class, the docstring is for readers of the source.
        if not (key == "title" and isinstance(item, str))
    }


def _load(model: "type[BaseModel]", arguments: dict[str, Any]) -> "BaseModel":
    from pydantic import ValidationError

    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        raise ToolError(_explain(error)) from None


def _explain(error: "ValidationError") -> str:
    mistakes = [f"`{_place(each['loc'])}`: {each['msg']}" for each in error.errors()[:10]]
    return (
        f"The arguments do not fit: {'; '.join(mistakes)}. Correct them, and call the tool again."
    )


def _place(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).lstrip(".")
