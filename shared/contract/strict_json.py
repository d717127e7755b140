"""Parses JSON strictly: NaN, Infinity and text that is not UTF-8 are errors."""

import json
from typing import Any, NoReturn

import orjson

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.json_faults import explain_bytes, explain_fault, find_constant

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def parse_json(body: bytes) -> Any:
    """Parses strict JSON. Raises ApiError (`invalid_json`).

    A byte order mark is dropped, also a doubled one: editors on Windows write it, and a program
    that adds it to a file that has one doubles it. The error of a syntax fault has its line, column
    and offset in characters. The error of a byte that is not UTF-8 has its offset in bytes. All of
    them count from the end of the mark.

    A lone surrogate in a string must fail only its row, but orjson rejects the whole document. So a
    document that orjson rejects is parsed again by the standard library, whose result counts. Its
    extensions NaN and Infinity are rejected. If an object repeats a name, both parsers take the
    last value.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if body.startswith(BYTE_ORDER_MARK):
            return _parse_again(body.removeprefix(BYTE_ORDER_MARK).removeprefix(BYTE_ORDER_MARK))
        return _parse_with_standard_library(body)


def _parse_again(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_with_standard_library(body)


def _parse_with_standard_library(body: bytes) -> Any:
    if explanation := explain_bytes(body):
        raise _invalid_json(f": {explanation}")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        line_start = body.rfind(b"\n", 0, error.start) + 1
        line = body.count(b"\n", 0, error.start) + 1
        column = len(body[line_start : error.start].decode("utf-8")) + 1
        raise _invalid_json(
            f" at line {line}, column {column}: byte {error.start} is not UTF-8. Save the document "
            "as UTF-8",
            line=line,
            column=column,
            offset=error.start,
        ) from None
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        fault = error
    except RecursionError:
        raise build_too_deep() from None
    except _NoJsonValue as error:
        fault = json.JSONDecodeError(str(error), text, find_constant(text))
    except ValueError:  # Python's own message advises changing a setting of the interpreter
        raise _invalid_json(": a number has too many digits. Send fewer") from None
    explanation = explain_fault(text, fault.pos, fault.msg)
    raise _invalid_json(
        f" at line {fault.lineno}, column {fault.colno}: {explanation}",
        line=fault.lineno,
        column=fault.colno,
        offset=fault.pos,
    )


def build_too_deep() -> ApiError:
    """Builds the error of a document that is nested too deeply.

    orjson parses 1024 levels. Python can't show or encode so many: it raises RecursionError.
    """
    return _invalid_json(": it is nested too deeply. Send fewer levels")


def _invalid_json(explanation: str, **location: Any) -> ApiError:
    return ApiError(ErrorCode.INVALID_JSON, f"Invalid JSON{explanation}.", **location)


class _NoJsonValue(ValueError):
    """The document has a constant that Python accepts and JSON does not."""


def _reject_constant(name: str) -> NoReturn:
    raise _NoJsonValue(name)
