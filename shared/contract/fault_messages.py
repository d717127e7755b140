"""Describes the fault of one value in plain English, in place of pydantic's own phrases.

A message says what the value must be, with its bounds and an example. It is read after the field's
name: "limit: must be at most 200; it is 500".
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, get_args

from pydantic_core import ErrorDetails, PydanticKnownError
from pydantic_core.core_schema import ErrorType

EXAMPLE_UUID = "0198c7a4-5d1e-7f3b-8a52-3c6f0e9b7d41"
EXAMPLE_TIME = "2026-03-06T10:00:00Z"
EXAMPLE_URL = "https://shop.example/lamp.jpg"
MAX_NUMBER_LENGTH = 20
"""Longer numbers are not repeated in a message."""

_TEXT = "must be text"
_WHOLE_NUMBER = "must be a whole number, for example 50"
_NUMBER = "must be a number, for example 2.5"
_LIST = "must be a list"
_OBJECT = "must be an object with named fields"
_TIME = f"must be an ISO 8601 date and time with an offset, for example {EXAMPLE_TIME}"
_DATE = "must be a date, for example 2026-03-06"
_DURATION = "must be a number of seconds, or an ISO 8601 duration such as PT30M"

_MESSAGES: dict[str, str] = {
    "missing": "is required",
    "missing_argument": "is required",
    "extra_forbidden": "There is no such field. Remove it, or correct its name.",
    "none_required": "must be left out",
    "string_unicode": "must be text in UTF-8",
    "string_not_ascii": "must have only ASCII characters",
    "bytes_type": _TEXT,
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "int_parsing_size": "must be a whole number with fewer digits",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "deque_type": _LIST,
    "iterable_type": _LIST,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "dataclass_exact_type": _OBJECT,
    "invalid_key": "must have only names that are text",
    "uuid_type": f"must be a UUID, for example {EXAMPLE_UUID}",
    "uuid_parsing": f"must be a UUID, for example {EXAMPLE_UUID}",
    "datetime_type": _TIME,
    "datetime_object_invalid": _TIME,
    "timezone_aware": f"must include a timezone offset, for example {EXAMPLE_TIME}",
    "datetime_past": "must be in the past",
    "datetime_future": "must be in the future",
    "date_type": _DATE,
    "date_from_datetime_inexact": _DATE,
    "date_past": "must be in the past",
    "date_future": "must be in the future",
    "time_type": "must be a time of day, for example 10:00:00",
    "time_parsing": "must be a time of day, for example 10:00:00",
    "time_delta_type": _DURATION,
    "time_delta_parsing": _DURATION,
    "url_type": f"must be a URL, for example {EXAMPLE_URL}",
    "url_scheme": "must begin with http:// or https://",
    "json_type": "must be JSON",
    "recursion_loop": "must have fewer levels",
    "recursion_depth_exceeded": "must have fewer levels",
}
"""Messages that need no details."""

_URL_REASONS = {
    "empty host": "the host is missing",
    "input is empty": "it is empty",
    "relative URL without a base": "https:// is missing",
    "invalid international domain name": "the host name is invalid",
    "invalid domain character": "the host name is invalid",
}
_PATTERNS = {
    r"^[^\x00]*$": "must not contain the character NUL",
    r"^[A-Za-z0-9_-]+$": "may have only letters, digits, hyphens and underscores",
}
_QUOTED = re.compile(r"'([^']*)'")
_PART_OUT_OF_RANGE = re.compile(r"(\w+) value is outside expected range").match


def describe_fault(details: ErrorDetails) -> str:
    """Returns what the value must be, such as "must be true or false".

    `details` must have their context. The message of a validator of our own is returned unchanged.
    A message has nothing of the value but its length or, for a number, the number itself. Without
    `input` in the details it has nothing of the value at all.
    """
    kind = details["type"]
    context = details.get("ctx")
    is_own = context is None and details["msg"] != _PHRASES_OF_PYDANTIC.get(kind)
    if is_own or kind not in _TYPES_OF_PYDANTIC:
        return details["msg"]
    if describe := _DESCRIPTIONS.get(kind):
        return describe(context or {}, details.get("input", _MISSING))
    return _MESSAGES.get(kind, "has a value that is not accepted")


def _list_phrases() -> Iterator[tuple[str, str]]:
    for kind in get_args(ErrorType):
        with suppress(TypeError):  # its phrase needs a context
            yield kind, PydanticKnownError(kind).message()


class _Missing:
    """Stands for a value that the details leave out."""


_MISSING = _Missing()
_Describe = Callable[[Mapping[str, Any], object], str]


def _describe_text_type(_context: Mapping[str, Any], value: object) -> str:
    if value is None:
        return "must be text, not null"
    if isinstance(value, bool | int | float):
        return "must be text: put the value in double quotes"
    if isinstance(value, list | dict):
        return f"must be text, not {'a list' if isinstance(value, list) else 'an object'}"
    return _TEXT


def _describe_text_too_short(context: Mapping[str, Any], value: object) -> str:
    length = f"; it has {len(value)}" if isinstance(value, str) else ""
    return f"must have at least {_count(context['min_length'], 'character')}{length}"


def _describe_text_too_long(context: Mapping[str, Any], value: object) -> str:
    limit = context["max_length"]
    return f"must have at most {_count(limit, 'character')}{_describe_length(value, limit)}"


def _describe_length(value: object, limit: int) -> str:
    if not isinstance(value, str):
        return ""
    # Some fields lose surrounding white space before their length is checked
    stripped = len(value.strip())
    return f"; it has {stripped if stripped > limit else len(value)}"


def _describe_too_few(context: Mapping[str, Any], _value: object) -> str:
    return f"must have at least {_count(context['min_length'], 'item')}"


def _describe_too_many(context: Mapping[str, Any], _value: object) -> str:
    count = context.get("actual_length")
    found = f"; it has {count}" if isinstance(count, int) else ""
    return f"must have at most {_count(context['max_length'], 'item')}{found}"


def _describe_bound(words: str, name: str) -> _Describe:
    def describe(context: Mapping[str, Any], value: object) -> str:
        is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
        found = f"; it is {value}" if is_number and len(str(value)) <= MAX_NUMBER_LENGTH else ""
        return f"must be {words} {context[name]}{found}"

    return describe


def _describe_choice(context: Mapping[str, Any], _value: object) -> str:
    expected = str(context["expected"])
    choices = _QUOTED.findall(expected)
    if len(choices) == 1:
        return f"must be {choices[0]}"
    return f"must be one of: {', '.join(choices) or expected}"


def _describe_pattern(context: Mapping[str, Any], _value: object) -> str:
    pattern = context["pattern"]
    return _PATTERNS.get(pattern, f"has a form that is not allowed: it must match {pattern}")


def _describe_time(context: Mapping[str, Any], _value: object) -> str:
    if part := _PART_OUT_OF_RANGE(str(context["error"])):
        return f"must be a date and time that exists: its {part[1]} is out of range"
    return _TIME


def _describe_date(context: Mapping[str, Any], _value: object) -> str:
    if part := _PART_OUT_OF_RANGE(str(context["error"])):
        return f"must be a date that exists: its {part[1]} is out of range"
    return _DATE


def _describe_url(context: Mapping[str, Any], _value: object) -> str:
    reason = str(context["error"])
    return f"must be a URL, for example {EXAMPLE_URL}: {_URL_REASONS.get(reason, reason)}"


def _describe_json(context: Mapping[str, Any], _value: object) -> str:
    return f"must be JSON: {context['error']}"


def _describe_own_error(context: Mapping[str, Any], _value: object) -> str:
    return str(context["error"])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_DESCRIPTIONS: dict[str, _Describe] = {
    "string_type": _describe_text_type,
    "string_too_short": _describe_text_too_short,
    "string_too_long": _describe_text_too_long,
    "url_too_long": _describe_text_too_long,
    "string_pattern_mismatch": _describe_pattern,
    "too_short": _describe_too_few,
    "too_long": _describe_too_many,
    "greater_than": _describe_bound("more than", "gt"),
    "greater_than_equal": _describe_bound("at least", "ge"),
    "less_than": _describe_bound("less than", "lt"),
    "less_than_equal": _describe_bound("at most", "le"),
    "multiple_of": _describe_bound("a multiple of", "multiple_of"),
    "enum": _describe_choice,
    "literal_error": _describe_choice,
    "datetime_parsing": _describe_time,
    "datetime_from_date_parsing": _describe_time,
    "date_parsing": _describe_date,
    "date_from_datetime_parsing": _describe_date,
    "url_parsing": _describe_url,
    "url_syntax_violation": _describe_url,
    "json_invalid": _describe_json,
    "value_error": _describe_own_error,
    "assertion_error": _describe_own_error,
}
_TYPES_OF_PYDANTIC = frozenset(get_args(ErrorType))
_PHRASES_OF_PYDANTIC = dict(_list_phrases())
"""pydantic's phrases that need no context. Our validators use some of its types, with own words."""
