"""The config of a module: variables are filled in, numbers are checked, secrets are redacted.

Secrets are known by their values (see `Resolver`). Whatever people see is redacted; what is
executed or sent is not.
"""

import base64
import json
import logging
import math
import os
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import quote, urlsplit

from amplifierd.common.redaction import is_secret
from sessions_app.engine.base import EngineError, bad_config

Config = dict[str, Any]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

MASK = "***"
# Characters of a secret, at least.
SHORTEST = 6

# Keys of a config whose values become headers of HTTP.
_IN_HEADERS = frozenset({"api_key", "headers"})
# Characters around a key that were copied by accident: white space, a byte order mark, characters
# without width.
_AROUND = " \t\r\n\v\f\x00\x85\xa0\u200b\u200c\u200d\u2028\u2029\u2060\ufeff"

# All values that this process has filled in so far: its log must not show them.
seen: set[str] = set()


class Resolver:
    """Fills `${NAME}` from the environment, and remembers what must not be shown.

    `secrets` are all values that were filled in: they are redacted in errors of the service. `keys`
    are the values that people must never see, not even in arguments of tools: those under the key
    of a secret, those of a variable with a secret's name, and, under `args`, `command`, `env` and
    `headers`, all but values that are certainly public, such as paths.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self.secrets: set[str] = set()
        self.keys: set[str] = set()

    def resolve(
        self, value: Any, *, secret: bool = False, given: bool = False, header: str = ""
    ) -> Any:
        """Return the value with every `${NAME}` in it filled, at any depth.

        `secret` means that the value is below the key of a secret, `given` that a program gets it.
        `header` is the key of a value that becomes part of an HTTP header (`api_key`, or a key
        below `headers`), or empty; white space and quotes around such a value are removed.

        Raises EngineError `missing_key`, with the variable's name, if a variable is unset or empty,
        and `bad_config`, with the variable or the key, if a header cannot have the value.
        """

        def fill(match: re.Match[str]) -> str:
            name, found = match[1], os.environ.get(match[1])
            if not found:
                raise missing_key(self.module, name)
            is_hidden = secret or is_secret(name) or (given and not is_public(found))
            self.keep(found, is_hidden)
            if header:
                found = clean_key(found, self.module, f"the environment variable {name}")
                if not found:
                    raise missing_key(self.module, name)
                self.keep(found, is_hidden)
            return found

        if isinstance(value, str):
            filled = _VARIABLE.sub(fill, value)
            return clean_key(filled, self.module, f"`{header}` in its config") if header else filled
        if isinstance(value, dict):
            return {
                key: self.resolve(
                    item,
                    secret=secret or is_secret(str(key)),
                    given=given or str(key) in _GIVEN,
                    header=str(key) if header or key in _IN_HEADERS else "",
                )
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.resolve(item, secret=secret, given=given, header=header) for item in value]
        return value

    def keep(self, value: str, secret: bool) -> None:
        """Remember a value that errors must not repeat; if it is a secret, nobody may see it."""
        self.secrets.add(value)
        seen.add(value)
        if secret:
            self.keys.add(value)


# Keys of a tool's config whose values a program or a service gets.
_GIVEN = {"args", "command", "env", "headers"}
# A path, a number, a host name, or a URL without a user: people need these to decide about a call,
# and they are no secrets.
_PUBLIC = re.compile(
    r"~?/[^\s]*|\.{1,2}(/[^\s]*)?|[0-9.]+|(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(:[0-9]{1,5})?"
    r"|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?"
)
# A long row of letters and digits: no name has one, but many tokens do.
_RANDOM = re.compile(r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}")


def is_public(value: str) -> bool:
    """Return whether a value is certainly no secret: nothing in it looks like a token."""
    return _PUBLIC.fullmatch(value) is not None and not _RANDOM.search(value)


def clean_key(text: str, module: str, source: str) -> str:
    """Return a key, or any other value of a header, without characters copied by accident.

    These are white space around it, a line break at its end, and one pair of quotes. Raises
    EngineError `bad_config`, with the source, if a header cannot have one of the other characters.
    """
    key = text.strip(_AROUND)
    if len(key) > 1 and key[0] == key[-1] and key[0] in "\"'`":
        key = key[1:-1].strip(_AROUND)
    wrong = next((place for place, each in enumerate(key) if not " " <= each <= "~"), None)
    if wrong is None:
        return key
    raise bad_config(
        f"{module} cannot send {source} as a key: character {wrong + 1} of {len(key)} is "
        f"U+{ord(key[wrong]):04X}, which no header of HTTP may have. It may have come along when "
        "the key was copied: enter the key again, and restart."
    )


def missing_key(module: str, name: str) -> EngineError:
    """Return the error for a variable of the environment that is not set."""
    return EngineError(
        "missing_key",
        f"{module} needs the environment variable {name}, which is not set. "
        "Put it into the environment or the .env file, and restart.",
    )


def is_url(text: str, schemes: Collection[str]) -> bool:
    """Return whether a text is a URL with a host and one of the schemes."""
    try:
        url = urlsplit(text)
        is_usable = url.scheme in schemes and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    return is_usable and text.isprintable() and " " not in text


def find_variables(value: Any) -> set[str]:
    """Return the names of the variables that a config refers to, at any depth."""
    if isinstance(value, str):
        return set(_VARIABLE.findall(value))
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(find_variables, items))


def redact_text(text: str, secrets: set[str]) -> str:
    """Return the text with every secret replaced, in all spellings of `list_spellings`."""
    for spelling in list_spellings(secrets):
        text = text.replace(spelling, MASK)
    return text


def list_spellings(secrets: set[str]) -> list[str]:
    """Return the forms that secrets may have in a text, the longest first.

    They may be escaped, encoded for a URL, or in base64. A value of a few characters does not count
    as a secret: a variable may be a number, and to replace that would damage the text.
    """
    spelled: set[str] = set()
    for secret in secrets:
        raw = secret.encode(errors="surrogatepass")
        spelled |= {secret, secret.strip(), repr(secret)[1:-1], repr(raw)[2:-1]}
        spelled |= {json.dumps(secret)[1:-1], quote(raw, safe="")}
        spelled.add(base64.b64encode(raw).decode().rstrip("="))
    return sorted((each for each in spelled if len(each) >= SHORTEST), key=len, reverse=True)


def number(config: Config, module: str, key: str, kind: type[int] | type[float]) -> int | float:
    """Return a config value as a finite number of the kind; raise EngineError if it is not one.

    The text of a variable is converted.
    """
    try:
        value = config[key]
        if isinstance(value, bool) or (kind is int and isinstance(value, float) and value % 1):
            raise TypeError
        number = kind(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        noun = "a whole number" if kind is int else "a number"
        raise wrong_kind(config, module, key, noun) from None


def wrong_kind(config: Config, module: str, key: str, noun: str) -> EngineError:
    """Return the error for a config value of the wrong kind; it does not repeat the value."""
    kind = type(config[key]).__name__
    return bad_config(f"`{key}` of {module} must be {noun}, not {kind}.")


def redact_json(value: Any, secrets: set[str]) -> Any:
    """Return JSON data with every secret in its texts replaced."""
    if isinstance(value, str):
        return redact_text(value, secrets)
    if isinstance(value, dict):
        return {
            redact_json(key, secrets): redact_json(item, secrets) for key, item in value.items()
        }
    return [redact_json(item, secrets) for item in value] if isinstance(value, list) else value


class StreamRedactor:
    """Redacts a text that comes in pieces, also secrets that are split between pieces.

    It holds back the end of a piece only as long as that may be the beginning of a secret.
    """

    def __init__(self, secrets: set[str]) -> None:
        self._secrets = list_spellings(secrets)
        self._longest = max(map(len, self._secrets), default=0)
        self._first = {secret[0] for secret in self._secrets}
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take a piece; return the redacted text that is certain after it."""
        text = self._held + piece
        if not self._secrets:
            return text
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        # The first place from which on the text may be the beginning of a secret.
        cut = max(len(text) - self._longest + 1, 0)
        while cut < len(text) and not (
            text[cut] in self._first and any(each.startswith(text[cut:]) for each in self._secrets)
        ):
            cut += 1
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """Return the text that was held back, because no more of it comes."""
        held, self._held = self._held, ""
        return held


class RedactingFormatter(logging.Formatter):
    """Formats log records and their tracebacks without any value that a config was filled with."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record), seen)
