"""Tables of the commands, on a terminal of 80 columns."""

from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from deploy.cli import tables

ID = str(uuid4())


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tables,
        "console",
        lambda min_width=0: Console(highlight=False, width=max(80, min_width)),
    )


def result(number: int, status: str = "failed", **fields: Any) -> dict[str, Any]:
    error = (
        {"error_code": "validation_error", "error_message": "title: is required"}
        if status == "failed"
        else {}
    )
    blank = dict.fromkeys(
        (
            "idempotency_key",
            "pin_id",
            "schedule_id",
            "error_code",
            "error_message",
            "payload_matches",
        )
    )
    return {"row_number": number, "status": status, "errors": [], **blank, **error, **fields}


def job(*results: dict[str, Any], **fields: Any) -> dict[str, Any]:
    counters = {
        f"{name}_rows": sum(row["status"] == name for row in results) for name in tables.COUNTERS
    }
    about: dict[str, Any] = {
        "id": ID,
        "source_type": "csv",
        "status": "completed_with_errors",
        "error_message": None,
        "warnings": [],
        "source_filename": "a.csv",
    }
    totals = {
        "total_rows": len(results),
        "processed_rows": len(results),
        "created_at": "2026-11-25T09:00:00+00:00",
    }
    return {**about, **totals, **counters, "results": list(results), **fields}


def test_an_id_in_a_list_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_jobs([job(result(1))])
    printed = capsys.readouterr().out
    assert ID in printed
    assert all(
        header in printed
        for header in ("total", "created", "existing", "failed", "source_filename", "created_at")
    )


def test_a_long_key_hides_nothing_of_other_rows(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_job(job(result(1, idempotency_key="k" * 300), result(2, idempotency_key="k2")))
    printed = capsys.readouterr().out
    assert f"{'k' * 39}…" in printed
    assert printed.count("title: is required") == 2
    assert "k2" in printed


def test_control_characters_are_escaped_in_tables(capsys: pytest.CaptureFixture[str]) -> None:
    warning = {"code": "unknown_columns", "message": "Unknown columns: \x1b[2J."}
    tables.print_job(
        job(result(1, idempotency_key="\x1b[31mred"), warnings=[warning], error_message="a\rb")
    )
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\r" not in printed
    assert r"\u001b[31mred" in printed


def test_the_first_failures_are_shown_with_the_command_that_shows_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tables.print_job(job(*(result(number) for number in range(1, 31))))
    printed = capsys.readouterr().out
    assert f"… and 10 more. See all rows: pinflow imports show {ID} --all" in " ".join(
        printed.split()
    )


@pytest.mark.parametrize("source_type", ["csv", "json"])
def test_only_a_csv_has_a_header(capsys: pytest.CaptureFixture[str], source_type: str) -> None:
    tables.print_job(job(result(1), source_type=source_type))
    assert ("CSV header" in capsys.readouterr().out) == (source_type == "csv")


def test_every_row_is_shown_with_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    pin_id, schedule_id = str(uuid4()), str(uuid4())
    rows = [
        result(1, "created", pin_id=pin_id),
        result(2, "existing", schedule_id=schedule_id),
        result(3),
    ]
    tables.print_job(job(*rows), every_row=True)
    printed = capsys.readouterr().out
    assert all(
        text in printed
        for text in (pin_id, schedule_id, "created", "existing", "failed", "title: is required")
    )
