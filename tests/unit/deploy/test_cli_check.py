"""`pinflow check`, with the real HTTP client and a small server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from tests.support.pinflow_server import (
    JsonRow,
    PinflowServer,
    create_result,
    refuse,
    running_server,
)
from tests.unit.deploy.test_cli_import import FUTURE, build_row, encode_csv, fail_rows, write


@pytest.fixture
def server() -> Iterator[PinflowServer]:
    with running_server(judge=create_or_schedule) as server:
        yield server


def create_or_schedule(number: int, row: JsonRow) -> JsonRow:
    result = create_result(number, row) | {"updated": None}
    if row["run_at"]:
        result |= {"pin_id": None, "schedule_id": f"schedule of {row['idempotency_key']}"}
    return result


def run(server: PinflowServer, *arguments: str) -> Result:
    variables = {"PINFLOW_BASE_URL": server.url, "PINFLOW_API_KEY": "pf_key"}
    return CliRunner().invoke(app, ["check", *arguments], env=variables)


def check(server: PinflowServer, directory: Path, rows: list[JsonRow], *options: str) -> Any:
    file = write(directory, "pins.csv", encode_csv(rows))
    return json.loads(run(server, file, "--json", *options).stdout)


def test_a_good_file_is_counted_and_nothing_is_imported(
    server: PinflowServer, tmp_path: Path
) -> None:
    rows = [build_row(1), build_row(2, run_at=FUTURE), build_row(3)]
    file = write(tmp_path, "pins.csv", encode_csv(rows))
    result = run(server, file, "--account", "Shop & Co", "--past", "fail")
    assert result.exit_code == ExitCode.DONE
    assert server.imports == []
    (request,) = server.requests
    expected = {"account": "Shop & Co", "past_run_at": "fail", "dry_run": "true"}
    assert request.query == expected
    counts = "3 rows: 2 would be published now and 1 later, 0 exist already, 0 would fail."
    command = f"pinflow import {file} --account 'Shop & Co' --past fail"
    advice = f"Nothing was imported. To import the file: {command}"
    assert result.stdout.splitlines() == [counts, advice]


def test_a_file_whose_times_would_be_ignored_is_refused(
    server: PinflowServer, tmp_path: Path
) -> None:
    text = "account_id,board_id,title,image_url,idempotency_key,Date\na,b,t,u,k,2031-01-01 09:00\n"
    result = run(server, write(tmp_path, "pins.csv", text.encode()), "--timezone", "Europe/Berlin")
    assert result.exit_code == ExitCode.REFUSED
    assert "every pin would be published now. If it says when to publish" in result.stderr


def test_faults_are_shown_with_their_lines(server: PinflowServer, tmp_path: Path) -> None:
    server.judge = fail_rows("lamp-2")
    file = write(tmp_path, "pins.csv", encode_csv([build_row(1), build_row(2)]))
    result = run(server, file)
    assert result.exit_code == ExitCode.ROWS_FAILED
    words = " ".join(result.stdout.split())
    assert "2 3 lamp-2 validation_error title: must not be blank" in words
    assert words.endswith("Nothing was imported. Correct the rows and check the file again.")


def test_existing_rows_that_would_not_be_published_are_exit_code_1(
    server: PinflowServer, tmp_path: Path
) -> None:
    existing = {"status": "existing", "existing_state": "deleted", "payload_matches": True}
    server.judge = lambda number, row: create_or_schedule(number, row) | existing
    file = write(tmp_path, "pins.csv", encode_csv([build_row(1)]))
    result = run(server, file)
    assert result.exit_code == ExitCode.ROWS_FAILED
    assert "The existing rows are: 1 deleted." in result.stdout


def test_rows_of_later_portions_know_the_keys_of_earlier_ones(
    server: PinflowServer, tmp_path: Path
) -> None:
    rows = [build_row(number) for number in range(1, 504)]
    rows[1]["run_at"] = FUTURE
    rows[500] = {**rows[0]}
    rows[501] = {**rows[1], "title": "Another title", "run_at": ""}
    checked = check(server, tmp_path, rows)
    counts = ("total_rows", "created_rows", "existing_rows", "failed_rows")
    assert [checked[name] for name in counts] == [503, 501, 2, 0]
    same, other, new = checked["results"][500:]
    assert (same["status"], same["existing_state"], same["payload_matches"]) == (
        *("existing", "published", True),
    )
    assert (same["row_number"], same["line"], same["pin_id"]) == (
        *(501, 502, checked["results"][0]["pin_id"]),
    )
    assert (other["existing_state"], other["payload_matches"], other["updated"]) == (
        *("scheduled", False, None),
    )
    assert (other["pin_id"], other["schedule_id"]) == (None, "schedule of lamp-2")
    assert new["status"] == "created"
    (warning,) = checked["warnings"]
    assert (warning["code"], warning["row_numbers"]) == ("duplicate_keys", [2, 502])
    updated = check(server, tmp_path, rows, "--on-existing", "update")["results"][501]
    assert (updated["existing_state"], updated["payload_matches"], updated["updated"]) == (
        *("queued", True, True),
    )


def test_the_key_of_a_row_that_fails_is_free_for_a_later_portion(
    server: PinflowServer, tmp_path: Path
) -> None:
    rows = [build_row(number) for number in range(1, 502)]
    rows[0]["title"] = "bad"
    rows[500]["idempotency_key"] = "lamp-1"

    def judge(number: int, row: JsonRow) -> JsonRow:
        failed = {"status": "failed", "pin_id": None}
        return create_or_schedule(number, row) | (failed if row["title"] == "bad" else {})

    server.judge = judge
    results = check(server, tmp_path, rows)["results"]
    assert [results[0]["status"], results[500]["status"]] == ["failed", "created"]


def test_repeated_keys_are_named(server: PinflowServer, tmp_path: Path) -> None:
    rows = [build_row(1)] * 3 + [build_row(2)]
    file = write(tmp_path, "pins.csv", encode_csv(rows))
    result = run(server, file)
    message = (
        "2 rows repeat the idempotency key of an earlier row and would create nothing: rows 2-3."
    )
    assert message in result.stdout


def test_a_refused_file_is_exit_code_2(server: PinflowServer, tmp_path: Path) -> None:
    server.overrides = [refuse(422, "unknown_columns", "Did you mean run_at?")]
    file = write(tmp_path, "pins.csv", encode_csv([build_row(1)]))
    result = run(server, file)
    assert (result.exit_code, result.stdout) == (ExitCode.REFUSED, "")
    assert "Did you mean run_at?" in result.stderr
