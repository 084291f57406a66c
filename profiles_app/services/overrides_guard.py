"""What overrides may not do: bring secrets, or send those of the profile somewhere else.

A `${NAME}` is filled from the worker's environment, so whoever chose both the name and the host
that it is sent to could read any variable. Therefore a profile, which the operator keeps, decides
which variables are read and where they go:

- a reference is allowed only word for word as the profile makes it at the same place;
- what the config of a module reaches (host, source, command) cannot change where the config
  refers to a variable, and that of a provider not at all if its module may know a key of its own;
- a literal secret is refused: it would be stored.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from profiles_app.definition import MODULE_LISTS, TEXTS
from profiles_app.exceptions import InvalidDefinition
from profiles_app.masking import is_secret, literal_secret, words
from profiles_app.services.merging import merge

REFERENCE = re.compile(r"\$\{")
# Providers that send no key but the one in their config.
KEYLESS = frozenset(
    {
        "provider-local",
        "provider-mock",
        "provider-ollama",
        "provider-openai-compatible",
        "provider-vllm",
    }
)
# The end of a key that says where a module reaches, or what it starts.
_REACH = re.compile(
    r"(^|_)(url|uri|endpoint|host|hosts|hostname|server|address|domain|port|base|proxy|proxies"
    r"|command|args|env|transport|source)$"
)
# One that all parsers read alike.
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")


def check_texts(base: dict[str, Any], overrides: dict[str, Any], where: str) -> None:
    """Raise InvalidDefinition for a secret or a reference that the overrides may not have.

    Agents, context and instruction are texts that nobody fills in; they are the caller's own.
    """
    data = {key: item for key, item in overrides.items() if key not in {*TEXTS, "instruction"}}
    if place := literal_secret(data, where):
        raise InvalidDefinition(
            f"{place}: a secret is never stored; write ${{NAME}} in a profile, and name that."
        )
    if place := _new_reference(_aligned(base, data), data, where):
        raise InvalidDefinition(
            f"{place}: overrides refer to no variable but as the profile itself does at the same "
            "place; write ${NAME} in a profile."
        )


def check_modules(
    section: str, base: list[dict[str, Any]], extra: list[dict[str, Any]], where: str
) -> None:
    """Raise InvalidDefinition where an override would send what the profile keeps elsewhere."""
    known = {entry["module"]: entry for entry in base}
    for index, entry in enumerate(extra):
        before = known.get(entry["module"], {})
        after = merge(before, entry)
        knows_key = section == "providers" and entry["module"] not in KEYLESS
        if not knows_key and not _refers(after.get("config")):
            continue
        if place := _moved(before, after, f"{where}[{index}]"):
            raise InvalidDefinition(
                f"{place}: overrides cannot change what {entry['module']} reaches, as its key "
                "would go there; give the host in a profile."
            )


def _aligned(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return the base with its modules at the places where the data have theirs."""
    aligned = dict(base)
    for section in MODULE_LISTS:
        if isinstance(data.get(section), list):
            known = {entry["module"]: entry for entry in base[section]}
            aligned[section] = [known.get(_name(entry)) for entry in data[section]]
    return aligned


def _name(entry: Any) -> str | None:
    name = entry.get("module") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _new_reference(base: Any, over: Any, where: str) -> str | None:
    """Return the place of the first reference that the base does not make there, word for word."""
    if isinstance(over, str):
        return where if REFERENCE.search(over) and over != base else None
    found = (
        _new_reference(_part(base, key), item, f"{where}{_step(key)}") for key, item in _parts(over)
    )
    return next((place for place in found if place), None)


def _moved(before: dict[str, Any], after: dict[str, Any], where: str) -> str | None:
    """Return the place of the first change in what a module reaches, or in the key it sends."""
    old, new = (dict(_reach(entry, where)) for entry in (before, after))
    return next(
        (place for place in {**new, **old} if not _same(old.get(place), new.get(place))), None
    )


def _reach(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of all that says where a module reaches and with which key."""
    for key, item in _parts(value):
        place = f"{where}{_step(key)}"
        if isinstance(key, str) and (_REACH.search(words(key)) or is_secret(key)):
            yield place, item
        else:
            yield from _reach(item, place)


def _same(old: Any, new: Any) -> bool:
    """Tell whether two values are the same, or different paths of the same host."""
    if new == old:
        return True
    urls = [value for value in (old, new) if isinstance(value, str) and _PLAIN_URL.fullmatch(value)]
    return len(urls) == 2 and _origin(urls[0]) == _origin(urls[1])


def _origin(url: str) -> tuple[str, str, int]:
    scheme, _, rest = url.partition("://")
    host, colon, port = rest.partition("/")[0].lower().partition(":")
    return scheme, host, int(port) if colon else {"http": 80, "https": 443}[scheme]


def _refers(value: Any) -> bool:
    """Tell whether JSON data refer to a variable anywhere."""
    if isinstance(value, str):
        return bool(REFERENCE.search(value))
    return any(_refers(item) for _, item in _parts(value))


def _parts(value: Any) -> Iterable[tuple[str | int, Any]]:
    """Return the parts of an object or a list by key or index; anything else has none."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _part(value: Any, key: str | int) -> Any:
    """Return the part at a key or an index, None where there is none."""
    if isinstance(value, dict):
        return value.get(key)
    return value[key] if isinstance(value, list) and int(key) < len(value) else None


def _step(key: str | int) -> str:
    return f"[{key}]" if isinstance(key, int) else f".{key}"
