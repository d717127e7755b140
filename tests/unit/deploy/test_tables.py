"""Tables of the commands, on a terminal of 80 columns."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from deploy.cli import job_tables, tables
from deploy.cli.counts import choose_verb, number_of, part_of
from deploy.cli.job_tables import print_check, print_job
from deploy.cli.listing import Listing

ID = str(uuid4())


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tables, job_tables):
        monkeypatch.setattr(
            module,
            "console",
            lambda min_width=0, is_error=False: Console(
                highlight=False, width=max(80, min_width), stderr=is_error
            ),
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
        f"{name}_rows": sum(row["status"] == name for row in results)
        for name in job_tables.COUNTERS
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
    columns = {"id": "id", "total": "total_rows", "created_at": "created_at"}
    listing = Listing([job(result(1))], total=1, has_more=False)
    tables.print_listing(listing, columns, empty_message="None.", as_json=False)
    printed = capsys.readouterr().out
    assert ID in printed
    assert "2026-11-25 09:00:00Z" in printed
    assert all(header in printed for header in columns)


def test_a_long_key_hides_nothing_of_other_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_job(job(result(1, idempotency_key="k" * 300), result(2, idempotency_key="k2")))
    printed = capsys.readouterr().out
    assert f"{'k' * 39}…" in printed
    assert printed.count("title: is required") == 2
    assert "k2" in printed


def test_control_characters_are_escaped_in_tables(capsys: pytest.CaptureFixture[str]) -> None:
    warning = {"code": "unknown_columns", "message": "Unknown columns: \x1b[2J."}
    print_job(
        job(result(1, idempotency_key="\x1b[31mred"), warnings=[warning], error_message="a\rb")
    )
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\r" not in printed
    assert r"\u001b[31mred" in printed


def test_the_first_failures_are_shown_with_the_command_that_shows_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_job(job(*(result(number) for number in range(1, 31))))
    printed = capsys.readouterr().out
    assert f"… and 10 more. See all rows: pinflow imports show {ID} --all" in " ".join(
        printed.split()
    )


@pytest.mark.parametrize("source_type", ["csv", "json"])
def test_only_a_csv_has_a_header(capsys: pytest.CaptureFixture[str], source_type: str) -> None:
    print_job(job(result(1), source_type=source_type))
    assert ("CSV header" in capsys.readouterr().out) == (source_type == "csv")


def test_every_row_is_shown_with_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    pin_id, schedule_id = str(uuid4()), str(uuid4())
    rows = [
        result(1, "created", pin_id=pin_id),
        result(2, "existing", schedule_id=schedule_id),
        result(3),
    ]
    print_job(job(*rows), every_row=True)
    printed = capsys.readouterr().out
    assert all(
        text in printed
        for text in (pin_id, schedule_id, "created", "existing", "failed", "title: is required")
    )


def test_a_csv_file_shows_the_line_of_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_job(job(result(1, line=7), result(2, "created", line=9)), every_row=True)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in lines[-3:]] == [
        ["row", "line", "status"],
        ["1", "7", "failed"],
        ["2", "9", "created"],
    ]


def test_warnings_name_their_rows(capsys: pytest.CaptureFixture[str]) -> None:
    warnings = [
        {"code": "past_run_at", "message": "They have passed.", "row_numbers": [7, 1, 2, 3]},
        {"code": "guessed_encoding", "message": "Guessed.", "row_numbers": []},
    ]
    print_job(job(result(1), warnings=warnings))
    printed = capsys.readouterr().out
    assert "Warning: They have passed. (rows 1-3, 7)" in printed
    assert "Warning: Guessed.\n" in printed


def test_a_long_list_of_numbers_is_cut() -> None:
    assert job_tables.format_rows([7]) == "row 7"
    assert job_tables.format_rows(range(1, 501)) == "rows 1-500"
    assert job_tables.format_rows(range(1, 100, 2)).endswith("37, 39 …")


def test_a_time_of_the_database_is_shown_like_one_of_the_api(
    capsys: pytest.CaptureFixture[str],
) -> None:
    time = datetime(2026, 12, 31, 10, 39, 37, 250_000, UTC)
    local = time.astimezone(timezone(timedelta(hours=2)))
    tables.print_rows([{"created_at": time, "revoked_at": local}])
    shown = capsys.readouterr().out.splitlines()[1].split()
    assert shown == ["2026-12-31", "10:39:37Z"] * 2
    tables.print_rows([{"created_at": time}], as_json=True)
    assert '"2026-12-31T10:39:37.250000Z"' in capsys.readouterr().out


def test_numbers_agree_with_their_nouns_and_verbs() -> None:
    assert [number_of(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert [part_of(1, total, "pin") for total in (1, 8)] == ["1 of 1 pin", "1 of 8 pins"]
    assert [choose_verb(number, "has", "have") for number in (0, 1, 2)] == ["have", "has", "have"]


def test_a_row_that_repeats_a_key_of_the_file_does_not_count_as_existing_already(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        result(1, "created", idempotency_key="new"),
        result(2, "existing", idempotency_key="new", existing_state="published"),
        result(3, "existing", idempotency_key="old", existing_state="published"),
    ]
    print_check(job(*rows, dry_run=True))
    printed = capsys.readouterr().out
    assert " ".join(printed.split()).startswith(
        "3 rows: 1 would be published now and 0 later, 1 exists already, 1 repeats an earlier row, "
        "0 would fail. 1 row repeats the idempotency key of an earlier row and would create "
        "nothing: row 2."
    )


def test_a_list_of_scopes_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    scopes = ["read", "create", "schedule", "update", "destructive", "admin"]
    tables.print_rows([{"name": "n" * 50, "scopes": scopes, "created_at": None}])
    printed = capsys.readouterr().out
    assert ", ".join(scopes) in printed
    assert f"{'n' * 39}…" in printed
