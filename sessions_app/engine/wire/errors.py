"""What a refusal means: status, headers and body of a server as a `StreamError`.

Servers agree on little: the same thing is told by a status, a code or a sentence, in many shapes.
`read_error` is for whatever comes with a status; `read_payload` for an error inside a stream.
"""

import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from sessions_app.engine.wire.events import ErrorKind, StreamError
from sessions_app.engine.wire.json_text import clean_text, parse_json

# Characters of a server's own words that are kept.
MESSAGE_LIMIT = 2000

_WEB_PAGE = re.compile(rb"^\s*(<!doctype|<html|<head|<body|<\?xml|<!--|<center|<h1|<title)", re.I)

# Codes and types of errors, as servers have them in any field.
_CODES: dict[str, ErrorKind] = {
    "context_length_exceeded": "too_long",
    "context_length_error": "too_long",
    "context_window_exceeded": "too_long",
    "contextwindowexceedederror": "too_long",
    "exceed_context_size_error": "too_long",
    "model_max_prompt_tokens_exceeded": "too_long",
    "max_context_length_exceeded": "too_long",
    "string_above_max_length": "too_long",
    "request_too_large": "too_long",
    "tokens_limit_reached": "too_long",
    "prompt_too_long": "too_long",
    "input_too_long": "too_long",
    "insufficient_quota": "quota",
    "insufficient_balance": "quota",
    "insufficient_credits": "quota",
    "insufficient_funds": "quota",
    "quota_exceeded": "quota",
    "billing_error": "quota",
    "billing_not_active": "quota",
    "billing_hard_limit_reached": "quota",
    "credit_balance_too_low": "quota",
    "access_terminated": "auth",
    "invalid_api_key": "auth",
    "api_key_invalid": "auth",
    "api_key_expired": "auth",
    "authentication_error": "auth",
    "permission_error": "auth",
    "permission_denied": "auth",
    "unauthenticated": "auth",
    "unauthorized": "auth",
    "model_not_found": "not_found",
    "not_found_error": "not_found",
    "deploymentnotfound": "not_found",
    "rate_limit_exceeded": "rate_limit",
    "rate_limit_error": "rate_limit",
    "rate_limit_reached": "rate_limit",
    "too_many_requests": "rate_limit",
    "resource_exhausted": "rate_limit",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "responsibleaipolicyviolation": "content_filter",
    "data_inspection_failed": "content_filter",
    "moderation_error": "content_filter",
    "overloaded_error": "overloaded",
    "overloaded": "overloaded",
    "server_error": "overloaded",
    "internal_server_error": "overloaded",
    "internal_error": "overloaded",
    "api_error": "overloaded",
    "unavailable": "overloaded",
    "service_unavailable": "overloaded",
    "timeout_error": "overloaded",
    "deadline_exceeded": "overloaded",
    "internal": "overloaded",
}
# The status that a kind stands for where the server tells none.
_STATUS: dict[ErrorKind, int] = {
    "auth": 401,
    "not_found": 404,
    "quota": 429,
    "rate_limit": 429,
    "overloaded": 503,
}

_TOO_LONG = re.compile(
    r"""
    context[ _-]?(length|window|size|limit)s?\b .{0,60}
        (exceed|overflow|too\ (small|short)|of\ only)
    | exceed\w* .{0,80} \b context
    | (larger|longer|greater|bigger|more) .{0,20} than .{0,40}
        ( context | maximum\ (model|input|prompt)\ length | maximum\ number\ of\ (input\ )?tokens )
    | too\ (long|large|big|many\ tokens) .{0,40} (for|with|in) .{0,30} (model|context|window)
    | (prompt|input|inputs|message|messages|request|conversation|query) \b .{0,40}
        \b (is|are|was|were) \s (too\ (long|large)|longer\ than)
    | (prompt|input)\ (too\ long|length\ exceeds|exceeds|tokens?\ exceed)
    | too\ many\ (input\ |prompt\ )?tokens
    | maximum\ (context|prompt|input|sequence|model)\ (length|size|window|tokens)
    | max(imum)?\ (number\ of\ )?(input\ |prompt\ )?tokens? \b .{0,30} exceed
    | exceed\w* .{0,60} (maximum\ number\ of\ tokens | max(imum)?\ (prompt|input|length)
        | (model\ )?token\ limit | max_model_len | max_seq_len | n_ctx )
    | (input|prompt)\ token\ count .{0,40} exceed
    | (?<![a-z_])tokens?\b .{0,60} (exceed | more\ than | greater\ than | over\ the)
    | token\ limit\ (was\ |is\ |has\ been\ )?(exceeded|reached)
    | (string|text|payload|body|content|request) \b .{0,20} too\ (long|large)
    | (payload|body|request)\ (body\ )?size\ exceed
    | (reduce|shorten) .{0,30} (length|size|number|prompt|input|messages|context)
    | range\ of\ input\ length
    | inputs?`?\ (tokens\ \+|must\ have\ less\ than)
    | context\ (the\ )?overflow | overflow\w*\ .{0,20} context
    | must\ be\ reduced | n_ctx\b | request\ entity\ too\ large
    | input\ length\ .{0,30} exceed
    | (上下文|输入|tokens?).{0,20}(过长|超过|超出)
    """,
    re.I | re.X | re.S,
)
# Of a server that counts requests or tokens by the minute.
_RATED = re.compile(r"per (minute|min|day|hour|second)|\b(tpm|rpm|tpd|rpd)\b|rate.?limit", re.I)
# Of the length of the answer alone. Where the context is named beside it, that is too short.
_ANSWER_TOO_LONG = re.compile(
    r"max_(completion_|output_)?tokens`?'? (is too large|must be|value|should be|has to be)"
    r"|at most \d+ completion tokens|maximum (allowed )?(number of )?(output|completion) tokens",
    re.I,
)
_CONTEXT = re.compile(r"context|prompt|input|messages", re.I)
_TOO_LARGE_EVER = re.compile(r"request too large|must be reduced", re.I)
_QUOTA = re.compile(
    r"insufficient.{0,20}(quota|balance|credit|fund)|billing|credit balance|out of credits"
    r"|exceeded your current quota|quota (has been )?(used up|exhausted)|payment required"
    r"|(spend|spending|monthly|usage) (limit|cap)|top up|add (more )?credits|欠费|余额不足",
    re.I,
)
_FILTERED = re.compile(
    r"content (management|filter|policy)|content_filter|safety (system|policy|filter)"
    r"|moderation|inappropriate content|responsible ai|flagged",
    re.I,
)
_NO_CONTENT_KIND = re.compile(
    r"(image|audio|video|file|multimodal|vision|modalit)\w* .{0,40}"
    r"(not (supported|support|allowed|enabled)|unsupported|cannot)"
    r"|(not support|unsupported|doesn't support|cannot (process|read)) .{0,40}"
    r"(image|audio|video|file|multimodal|vision|modalit)",
    re.I | re.S,
)
_QUOTE = "[`'\"\u201c\u201d\u2018\u2019]?"
_NAME = rf"{_QUOTE}(?:body\.)?([A-Za-z_][\w.\[\]-]{{0,100}}){_QUOTE}"
# A field that is refused, in the words of one server each. The first group is its name.
_FIELDS = [
    re.compile(pattern, re.I)
    for pattern in (
        rf"unrecognized (?:request )?(?:argument|parameter|field|key)s?(?:\(s\))?"
        rf"(?: supplied| in object)?:? {_NAME}",
        rf"(?:unsupported|unknown|unexpected|invalid|extra|unrecognized|additional) "
        rf"(?:request )?(?:parameter|field|name|argument|property|key|option|input)s?(?:\(s\))?"
        rf"(?: supplied)?:? {_NAME}",
        rf"(?:parameter|field|property|argument|key|option|attribute)s? {_NAME} "
        rf"(?:is |are |was )?(?:not|un)[ -]?(?:supported|permitted|allowed|expected|known"
        rf"|recognized|available|accepted)",
        rf"{_NAME}:? extra (?:inputs|fields?) (?:are )?not (?:permitted|allowed)",
        rf"additional properties are not allowed \({_NAME}",
        rf"additional propert(?:y|ies) {_NAME}",
        rf"unexpected keyword argument {_NAME}",
        rf"does not (?:support|accept|recognize|allow) (?:the )?"
        rf"(?:parameter|field|argument|option|property)(?:\(?s\)?)?:? {_NAME}",
        r"[`'\"]([A-Za-z_][\w.]{0,100})[`'\"] (?:is|are) (?:not (?:supported|allowed|permitted)"
        r"|unsupported|unknown|unexpected)",
        r"[`'\"]([A-Za-z_][\w.]{0,100})[`'\"] was unexpected",
        r"unsupported value: [`'\"]([A-Za-z_][\w.]{0,100})[`'\"] does not support",
        r"^([a-z]{1,40}_[a-z_]{1,60}) (?:is|are) (?:not (?:supported|allowed|permitted)"
        r"|unsupported)",
        r"does not support (?:the )?[`'\"]?([a-z]{1,40}_[a-z_]{1,60})[`'\"]?",
    )
]
_FIELD_CODES = {
    "unsupported_parameter",
    "unknown_parameter",
    "unsupported_value",
    "extra_forbidden",
}
# What a pattern may take for a name.
_NO_NAMES = {"in", "is", "are", "the", "to", "value", "values", "for", "with", "supplied", "body"}


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> StreamError:
    """Return what a refusal means: an answer whose status is not 200, and its whole body.

    `headers` are found by names in lower case, or in any. No HTML gets into the message.
    """
    if _is_web_page(headers, body):
        error = _classify(status, "", {}, body="")
        message = _web_page_message(status)
        kind = "not_found" if status in (404, 405) else error.kind
        return _with_headers(StreamError(kind, message, status), headers)
    try:
        value = parse_json(body)
    except ValueError:
        value = " ".join(clean_text(body.decode("utf-8", "replace")).split())
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return _with_headers(read_payload(value, status), headers)


def read_payload(value: Any, status: int | None = None) -> StreamError:
    """Return what an error means that a server tells in JSON, in a stream or as a body.

    `value` is the whole event or body, with `error` in it or not. Without `status`, one in it, or
    the one that its code stands for, is the error's.
    """
    # What is searched with patterns must not be long.
    message = _find_message(value)[:MESSAGE_LIMIT]
    codes = {code.lower() for code in _find_codes(value)}
    if status is None:
        numbers = (int(code) for code in codes if code.isascii() and code.isdigit())
        status = next((number for number in numbers if 400 <= number < 600), None)
    error = _classify(status, message, codes, value)
    if not message:
        message = _default_message(status)
    shown = error.status if error.status is not None else _STATUS.get(error.kind)
    return StreamError(
        error.kind, message[:MESSAGE_LIMIT], shown, None, _find_wait(value), error.field
    )


def _classify(status: int | None, message: str, codes: Any, body: Any) -> StreamError:
    kind = _kind(status, message, codes)
    field = ""
    if kind == "rejected" and (field := _find_field(body, message, codes)):
        kind = "unsupported_field"
    elif kind == "rejected" and _NO_CONTENT_KIND.search(message):
        kind = "unsupported_content"
    return StreamError(kind, message, status, field=field)


def _kind(status: int | None, message: str, codes: Any) -> ErrorKind:
    by_code = next((_CODES[code] for code in codes if code in _CODES), None)
    if by_code in ("too_long", "quota", "content_filter"):
        # `request_too_large` and the like come with several statuses; the code says it all.
        return by_code
    if status == 413 or (status == 429 and _TOO_LARGE_EVER.search(message)):
        return "too_long"
    if status == 402:
        return "quota"
    if status in (401, 403):
        return "quota" if _QUOTA.search(message) else "auth"
    if status == 429:
        return "quota" if _is_quota(message) else "rate_limit"
    if _is_too_long(message):
        return "too_long"
    if status == 404:
        return "not_found"
    if status in (400, 422, None) and _QUOTA.search(message):
        return "quota"
    if status in (400, 422, 451, None) and _FILTERED.search(message):
        return "content_filter"
    if status is None or status < 400:
        return by_code or "overloaded"
    if by_code == "auth" and status == 400:
        return by_code
    return "overloaded" if status >= 500 or status in (408, 409, 425) else "rejected"


def _is_too_long(message: str) -> bool:
    if _RATED.search(message) or not _TOO_LONG.search(message):
        return False
    return not _ANSWER_TOO_LONG.search(message) or bool(_CONTEXT.search(message))


def _is_quota(message: str) -> bool:
    return bool(_QUOTA.search(message)) and not re.search(r"per (minute|min|second)", message, re.I)


# Where servers put their words, the best first.
_WORDS = ("error", "message", "detail", "details", "msg", "error_message", "errors", "reason")


def _find_message(value: Any) -> str:
    """Return the server's own words, wherever it has put them."""
    if isinstance(value, str):
        return _unwrap(value)
    if isinstance(value, list):
        return "; ".join(filter(None, map(_find_message, value[:5])))
    if not isinstance(value, dict):
        return ""
    for key in (
        "error",
        "message",
        "detail",
        "details",
        "msg",
        "error_message",
        "errors",
        "reason",
    ):
        if found := _find_message(value.get(key)):
            place = value.get("loc") if key == "msg" else None
            where = ".".join(map(str, place)) if isinstance(place, list) else ""
            return f"{where}: {found}" if where else found
    response = value.get("response")
    return _find_message(response) if isinstance(response, dict) else ""


def _unwrap(text: str) -> str:
    """Return the words in a text that may be JSON itself: gateways pass on what they were told."""
    if text[:1] in "{[" and len(text) > 1:
        try:
            inner = parse_json(text)
        except ValueError:
            inner = None
        if found := _find_message(inner):
            return found
    if _WEB_PAGE.match(text[:200].encode("utf-8", "replace")):
        return ""
    return " ".join(clean_text(text).split())


def _find_codes(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield all codes, types and statuses, from the outside in."""
    if depth > 4:
        return
    if isinstance(value, list):
        for item in value[:5]:
            yield from _find_codes(item, depth + 1)
    elif isinstance(value, dict):
        for key in ("code", "type", "status", "status_code", "reason", "innererror"):
            found = value.get(key)
            if isinstance(found, str | int) and not isinstance(found, bool):
                yield str(found)
        for key in ("error", "detail", "details", "errors", "innererror", "response"):
            yield from _find_codes(value.get(key), depth + 1)
        if isinstance(text := value.get("message"), str) and text[:1] == "{":
            try:
                yield from _find_codes(parse_json(text), depth + 1)
            except ValueError:
                return


def _find_field(value: Any, message: str, codes: Any) -> str:
    """Return the name of the field that is refused as such; empty where none is."""
    if found := _forbidden(value):
        return found
    inner = value.get("error", value) if isinstance(value, dict) else None
    param = inner.get("param") if isinstance(inner, dict) else None
    if isinstance(param, str) and param and _FIELD_CODES & set(codes):
        return param
    for pattern in _FIELDS:
        match = pattern.search(message)
        if match and match[1].lower() not in _NO_NAMES:
            return match[1].strip(".")
    return ""


def _forbidden(value: Any) -> str:
    """Return the place of what pydantic calls `extra_forbidden`."""
    if isinstance(value, list):
        return next(filter(None, map(_forbidden, value)), "")
    if not isinstance(value, dict):
        return ""
    place = value.get("loc")
    if value.get("type") in ("extra_forbidden", "value_error.extra") and isinstance(place, list):
        names = [str(each) for each in place if each != "body"]
        return ".".join(names)
    return next(filter(None, (_forbidden(value.get(k)) for k in ("detail", "error", "errors"))), "")


def _find_wait(value: Any) -> float | None:
    """Return the seconds that a body says to wait, as Google's does."""
    if not isinstance(value, dict):
        return None
    inner = value.get("error", value)
    for each in (inner.get("details") if isinstance(inner, dict) else None) or ():
        delay = each.get("retryDelay") if isinstance(each, dict) else None
        if isinstance(delay, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)s", delay)):
            return float(match[1])
    return None


def _with_headers(error: StreamError, headers: Mapping[str, str]) -> StreamError:
    lower = {name.lower(): text for name, text in headers.items()}
    retry = {"true": True, "false": False}.get(lower.get("x-should-retry", "").strip().lower())
    wait = parse_retry_after(lower)
    return StreamError(
        error.kind,
        error.message,
        error.status,
        retry if error.retry is None else error.retry,
        error.retry_after if wait is None else wait,
        error.field,
    )


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, of `retry-after-ms` or `retry-after` (seconds or a date)."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) / unit
            if 0 <= seconds < float("inf"):
                return seconds
        except ValueError:
            continue
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _is_web_page(headers: Mapping[str, str], body: bytes) -> bool:
    kinds = [text for name, text in headers.items() if name.lower() == "content-type"]
    return bool(_WEB_PAGE.match(body[:500])) or any("html" in kind.lower() for kind in kinds)


def is_web_page(body: bytes) -> bool:
    """Tell whether the first bytes of a body are those of a web page."""
    return bool(_WEB_PAGE.match(body[:500]))


def _web_page_message(status: int) -> str:
    advice = "Check `base_url`: many services need /v1 at its end."
    if status >= 500:
        return f"a web page with status {status}, not an answer of the API."
    return f"a web page with status {status}, not an answer of the API. {advice}"


def _default_message(status: int | None) -> str:
    return f"nothing but the status {status}" if status else "nothing about the reason"
