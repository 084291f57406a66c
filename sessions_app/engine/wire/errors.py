"""Errors of servers: status, headers and body as a `StreamError`.

Servers report the same error as a status, a code or a sentence, in many forms. `read_error` is for
answers with an error status, `read_payload` for an error inside a stream.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

from sessions_app.engine.wire.events import ErrorKind, StreamError
from sessions_app.engine.wire.json_text import as_dict, as_dicts, clean_text, parse_json_or

# Characters of a server's message that are kept.
MESSAGE_LIMIT = 2000

_WEB_PAGE = re.compile(rb"^\s*(<!doctype|<html|<head|<body|<\?xml|<!--|<center|<h1|<title)", re.I)

# Codes and types of errors that servers use, in any field.
_CODE_NAMES: dict[ErrorKind, str] = {
    "too_long": "context_length_exceeded context_length_error context_window_exceeded "
    "contextwindowexceedederror exceed_context_size_error model_max_prompt_tokens_exceeded "
    "max_context_length_exceeded string_above_max_length request_too_large tokens_limit_reached "
    "prompt_too_long input_too_long",
    "quota": "insufficient_quota insufficient_balance insufficient_credits insufficient_funds "
    "quota_exceeded billing_error billing_not_active billing_hard_limit_reached "
    "credit_balance_too_low",
    "auth": "access_terminated invalid_api_key api_key_invalid api_key_expired "
    "authentication_error permission_error permission_denied unauthenticated unauthorized",
    "not_found": "model_not_found not_found_error deploymentnotfound",
    "rate_limit": "rate_limit_exceeded rate_limit_error rate_limit_reached too_many_requests "
    "resource_exhausted",
    "content_filter": "content_filter content_policy_violation responsibleaipolicyviolation "
    "data_inspection_failed moderation_error",
    "overloaded": "overloaded_error overloaded server_error internal_server_error internal_error "
    "api_error unavailable service_unavailable timeout_error deadline_exceeded internal",
}
_CODES = {code: kind for kind, codes in _CODE_NAMES.items() for code in codes.split()}
# The status for a kind if the server sends none.
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
# Words of a server that limits requests or tokens by time.
_RATED = re.compile(r"per (minute|min|day|hour|second)|\b(tpm|rpm|tpd|rpd)\b|rate.?limit", re.I)
# Words about the length of the answer alone. If the context is named too, the prompt is too long.
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
# How servers refuse a field, one pattern for each wording. The first group is the field's name.
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
# Words that a pattern may take for a name.
_NO_NAMES = {"in", "is", "are", "the", "to", "value", "values", "for", "with", "supplied", "body"}


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> StreamError:
    """Return the error of an answer whose status is not 200, with its whole body.

    The case of names in `headers` does not matter. The message never has HTML in it.
    """
    headers = {name.lower(): text for name, text in headers.items()}
    if is_web_page(body) or "html" in headers.get("content-type", "").lower():
        kind = "not_found" if status in (404, 405) else find_kind(status, "", set())
        advice = "" if status >= 500 else " Check `base_url`: many services need /v1 at its end."
        message = f"a web page with status {status}, not an answer of the API.{advice}"
        error = StreamError(kind, message, status)
    else:
        value = parse_json_or(body, body)
        if value is body:
            value = " ".join(clean_text(body.decode("utf-8", "replace")).split())
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        error = read_payload(value, status)
    retry = {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())
    wait = parse_retry_after(headers)
    return replace(
        error,
        retry=retry if error.retry is None else error.retry,
        retry_after=error.retry_after if wait is None else wait,
    )


def read_payload(value: Any, status: int | None = None) -> StreamError:
    """Return the error that a server sends as JSON, in a stream or as a body.

    `value` is the whole event or body, with or without `error` in it. If `status` is None, a status
    in the value counts, or the one that fits its code.
    """
    # The patterns are slow on long texts.
    message = find_message(value)[:MESSAGE_LIMIT]
    codes = {code.lower() for code in find_codes(value)}
    if status is None:
        numbers = (int(code) for code in codes if code.isascii() and code.isdigit())
        status = next((number for number in numbers if 400 <= number < 600), None)
    kind, field = find_kind(status, message, codes), ""
    if kind == "rejected" and (field := find_field(value, message, codes)):
        kind = "unsupported_field"
    elif kind == "rejected" and _NO_CONTENT_KIND.search(message):
        kind = "unsupported_content"
    if not message:
        message = f"nothing but the status {status}" if status else "nothing about the reason"
    shown = status if status is not None else _STATUS.get(kind)
    return StreamError(kind, message, shown, None, find_wait(value), field)


def find_kind(status: int | None, message: str, codes: set[str]) -> ErrorKind:
    by_code = next((_CODES[code] for code in codes if code in _CODES), None)
    if by_code in ("too_long", "quota", "content_filter"):
        # Such codes come with different statuses, so only the code counts.
        return by_code
    if status == 413 or (status == 429 and _TOO_LARGE_EVER.search(message)):
        return "too_long"
    if status == 402:
        return "quota"
    if status in (401, 403):
        return "quota" if _QUOTA.search(message) else "auth"
    if status == 429:
        by_minute = re.search(r"per (minute|min|second)", message, re.I)
        return "quota" if _QUOTA.search(message) and not by_minute else "rate_limit"
    is_answer_too_long = _ANSWER_TOO_LONG.search(message) and not _CONTEXT.search(message)
    if _TOO_LONG.search(message) and not (_RATED.search(message) or is_answer_too_long):
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


# Keys under which servers put their message, the best first.
_WORDS = ("error", "message", "detail", "details", "msg", "error_message", "errors", "reason")


def find_message(value: Any) -> str:
    """Return the server's message, under any of the usual keys; empty if there is none."""
    if isinstance(value, list):
        return "; ".join(filter(None, map(find_message, value[:5])))
    if isinstance(value, dict):
        for key in _WORDS:
            if found := find_message(value.get(key)):
                place = value.get("loc") if key == "msg" else None
                path = ".".join(map(str, place)) if isinstance(place, list) else ""
                return f"{path}: {found}" if path else found
        response = value.get("response")
        return find_message(response) if isinstance(response, dict) else ""
    if not isinstance(value, str):
        return ""
    # It may be JSON again, because gateways pass on the error that they got.
    if value[:1] in "{[" and (found := find_message(parse_json_or(value, None))):
        return found
    if is_web_page(value[:200].encode("utf-8", "replace")):
        return ""
    return " ".join(clean_text(value).split())


def find_codes(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield all codes, types and statuses in a value, the outer ones first."""
    if depth > 4:
        return
    if isinstance(value, list):
        for item in value[:5]:
            yield from find_codes(item, depth + 1)
    elif isinstance(value, dict):
        for key in ("code", "type", "status", "status_code", "reason", "innererror"):
            found = value.get(key)
            if isinstance(found, str | int) and not isinstance(found, bool):
                yield str(found)
        for key in ("error", "detail", "details", "errors", "innererror", "response"):
            yield from find_codes(value.get(key), depth + 1)
        if isinstance(text := value.get("message"), str) and text[:1] == "{":
            yield from find_codes(parse_json_or(text, None), depth + 1)


def find_field(value: Any, message: str, codes: set[str]) -> str:
    """Return the name of the field that the server refuses; empty if it refuses none."""
    if found := _find_forbidden(value):
        return found
    param = as_dict(as_dict(value).get("error", value)).get("param")
    if isinstance(param, str) and param and _FIELD_CODES & codes:
        return param
    for pattern in _FIELDS:
        match = pattern.search(message)
        if match and match[1].lower() not in _NO_NAMES:
            return match[1].strip(".")
    return ""


def _find_forbidden(value: Any) -> str:
    """Return the path of a field in pydantic's error `extra_forbidden`; empty without one."""
    if isinstance(value, list):
        return next(filter(None, map(_find_forbidden, value)), "")
    if not isinstance(value, dict):
        return ""
    place = value.get("loc")
    if value.get("type") in ("extra_forbidden", "value_error.extra") and isinstance(place, list):
        return ".".join(str(each) for each in place if each != "body")
    inner = map(value.get, ("detail", "error", "errors"))
    return next(filter(None, map(_find_forbidden, inner)), "")


def find_wait(value: Any) -> float | None:
    """Return the seconds to wait that a body names in Google's form; None if it names none."""
    for each in as_dicts(as_dict(as_dict(value).get("error", value)).get("details")):
        delay = each.get("retryDelay")
        if isinstance(delay, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)s", delay)):
            return float(match[1])
    return None


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


def is_web_page(body: bytes) -> bool:
    """Return whether the first bytes of a body are those of a web page."""
    return bool(_WEB_PAGE.match(body[:500]))
