"""Control characters that a client sent do not reach an operator's terminal."""

import json

import httpx
import pytest

from deploy.cli.client import read_error_message
from deploy.cli.tables import print_json

HOSTILE = "a\x1b[31m\x07\r\x7f\u009b2J\u202etxt.exe\u2028\U000e0001"


def test_control_characters_in_error_messages_are_escaped() -> None:
    answer = httpx.Response(
        422, json={"detail": {"code": "missing_columns", "message": f"found: {HOSTILE}"}}
    )
    assert read_error_message(answer).isprintable()
    assert "\\u001b[31m" in read_error_message(answer)


def test_control_characters_in_json_are_escaped_without_changing_the_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json([{"title": HOSTILE, "other": "Lämpe 日本"}])
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()
    assert "Lämpe 日本" in printed
    assert json.loads(printed) == [{"title": HOSTILE, "other": "Lämpe 日本"}]
