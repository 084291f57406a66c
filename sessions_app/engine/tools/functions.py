"""Tools made of typed functions: name, schema, description and validation come from the source."""

import functools
import inspect
import re
import typing
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sessions_app.engine.messages import ToolSpec
from sessions_app.engine.tools.arguments import coerce_arguments, unfit_arguments
from sessions_app.engine.tools.base import Tool

if TYPE_CHECKING:
    from pydantic import BaseModel

Function = Callable[..., Awaitable[str]]

# `name: text`, or `name (type): text`, in a section of arguments.
_ARGUMENT = re.compile(r"(\w+)(?: \([^)]*\))?:\s+(.*)")
# Sections of a docstring. A model gets only `Args`; the others are for readers of the source.
_SECTIONS = re.compile(r"^(Args|Returns|Raises|Yields|Note|Example|Examples):\s*$", re.MULTILINE)


def make_tool(function: Function, *, idempotent: bool = False) -> Tool:
    """Return a tool that calls a coroutine function with keyword arguments.

    It has the function's name and typed parameters. Its descriptions are the function's docstring,
    in Google's style, which must describe each parameter.
    """
    spec, model = read_signature(getattr(function, "__func__", function))

    def validate(arguments: Any) -> dict[str, Any]:
        fitting = coerce_arguments(arguments, spec.parameters)
        _load(model, fitting)
        return fitting

    async def call(arguments: dict[str, Any]) -> str:
        loaded = _load(model, arguments)
        given = {name: getattr(loaded, name) for name in loaded.model_fields_set}
        return await function(**given)

    return Tool(spec, call, validate, idempotent)


# Bounded, because a tool may make a new function for each attempt.
@functools.lru_cache(maxsize=1024)
def read_signature(function: Function) -> "tuple[ToolSpec, type[BaseModel]]":
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
    return ToolSpec(function.__name__, description, parameters), model


def parse_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the description in a cleaned docstring, and that of each argument below `Args:`."""
    sections = _SECTIONS.split(text)
    described: dict[str, str] = {}
    for title, body in zip(sections[1::2], sections[2::2], strict=True):
        name = ""
        for line in inspect.cleandoc(body).splitlines() if title == "Args" else ():
            start = None if line.startswith(" ") else _ARGUMENT.match(line)
            if start:
                name, described[start[1]] = start[1], start[2]
            elif name and line.strip():
                described[name] += f" {line.strip()}"
    return sections[0].strip(), described


def _without_titles(schema: Any) -> Any:
    """Return a schema without the titles that pydantic makes from names."""
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _without_titles(each) for name, each in item.items()}
        if key in ("properties", "$defs")
        else _without_titles(item)
        for key, item in schema.items()
        if not (key == "title" and isinstance(item, str))
    }


def _load(model: "type[BaseModel]", arguments: dict[str, Any]) -> "BaseModel":
    from pydantic import ValidationError

    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        mistakes = []
        for each in error.errors()[:10]:
            parts = (f"[{x}]" if isinstance(x, int) else f".{x}" for x in each["loc"])
            mistakes.append(f"`{''.join(parts).lstrip('.')}`: {each['msg']}")
        raise unfit_arguments(mistakes) from None
