"""No escape that a client sent reaches an operator's terminal."""

import json

import httpx
import pytest

from deploy.cli.client import read_error_message
from deploy.cli.tables import print_json

HOSTILE = "a\x1b[31m\x07\r\x7f\u009b2J\u202etxt.exe\u2028\U000e0001"


def test_what_a_refusal_repeats_of_a_file_is_shown() -> None:
    answer = httpx.Response(
        422, json={"detail": {"code": "missing_columns", "message": f"found: {HOSTILE}"}}
    )
    assert read_error_message(answer).isprintable()
    assert "\\u001b[31m" in read_error_message(answer)


def test_json_is_the_same_document_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"title": HOSTILE, "other": "Lämpe 日本"}])
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()
    assert "Lämpe 日本" in printed
    assert json.loads(printed) == [{"title": HOSTILE, "other": "Lämpe 日本"}]
