"""`pinflow imports` after an import, with the real HTTP client and a small server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import submission
from deploy.cli.corrections import parse_corrections
from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from deploy.cli.steering import LEFT_REASONS
from services.publisher.imports.rules import LeftReason
from tests.support.pinflow_server import (
    IMPORTS,
    Answer,
    PinflowServer,
    Request,
    create_result,
    refuse,
    running_server,
)

JOB = str(UUID(int=77, version=4))
CHILD = str(UUID(int=78, version=4))
PATH = f"{IMPORTS}/{JOB}"


@pytest.fixture
def server() -> Iterator[PinflowServer]:
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "POLL_SECONDS", 0.01)


def run(server: PinflowServer, *arguments: str, **options: Any) -> Result:
    variables = {"PINFLOW_BASE_URL": server.url, "PINFLOW_API_KEY": "pf_key"}
    return CliRunner().invoke(app, ["imports", *arguments], env=variables, **options)


def build_result(number: int, **fields: Any) -> dict[str, Any]:
    return create_result(number, {"idempotency_key": f"lamp-{number}"}) | fields


def build_failure(number: int) -> dict[str, Any]:
    message = "title: must not be blank"
    return build_result(
        number, status="failed", pin_id=None, error_code="validation_error", error_message=message
    )


def build_job(*results: dict[str, Any], **fields: Any) -> dict[str, Any]:
    failed = sum(result["status"] == "failed" for result in results)
    return {
        "id": JOB,
        "source_type": "csv",
        "status": "completed_with_errors" if failed else "completed",
        "total_rows": len(results),
        "processed_rows": len(results),
        "created_rows": len(results) - failed,
        "existing_rows": 0,
        "failed_rows": failed,
        "results": list(results),
        "error_message": None,
        "warnings": [],
        "completed_at": "2026-11-25T09:00:01Z",
        **fields,
    }


# Results


def test_results_are_listed_page_by_page_with_filters(server: PinflowServer) -> None:
    server.lists[f"{PATH}/results"] = [build_failure(number) for number in range(1, 31)]
    filters = ("--status", "failed", "--error-code", "validation_error", "--search", "lamp")
    result = run(server, "results", JOB, *filters)
    assert result.exit_code == ExitCode.DONE
    header, first, *_ = result.stdout.splitlines()
    assert header.split()[:4] == ["row", "status", "idempotency_key", "pin_id"]
    assert first.split()[:3] == ["1", "failed", "lamp-1"]
    assert first.rstrip().endswith("title: must not be blank")
    assert "Shown: 20 of 30." in result.stderr
    assert server.requests[0].query == {
        "status": "failed",
        "error_code": "validation_error",
        "q": "lamp",
        "limit": "20",
    }
    all_results = run(server, "results", JOB, "--limit", "100", "--json")
    assert json.loads(all_results.stdout) == server.lists[f"{PATH}/results"]


def test_no_results_are_said(server: PinflowServer) -> None:
    server.lists[f"{PATH}/results"] = []
    assert "your filters exclude it" in run(server, "results", JOB).stdout


def test_files_with_results_are_written_once(server: PinflowServer, tmp_path: Path) -> None:
    server.documents = {
        PATH: build_job(build_result(1), build_failure(2)),
        f"{PATH}/results.csv": b"\xef\xbb\xbfall",
        f"{PATH}/failed.csv": b"\xef\xbb\xbffailed",
    }
    whole, failed = tmp_path / "all.csv", tmp_path / "failed.csv"
    written = run(server, "results", JOB, "--csv", str(whole))
    assert written.exit_code == ExitCode.DONE
    assert f"Wrote the result of each row to {whole}." in written.stderr
    result = run(server, "results", JOB, "--failed", str(failed))
    assert result.exit_code == ExitCode.DONE
    assert (whole.read_bytes(), failed.read_bytes()) == (b"\xef\xbb\xbfall", b"\xef\xbb\xbffailed")
    assert f"Wrote 1 failed row to {failed}" in result.stderr
    assert f"pinflow import {failed}" in result.stderr
    failed.write_text("corrected")
    assert run(server, "results", JOB, "--failed", str(failed)).exit_code == ExitCode.REFUSED
    assert failed.read_text() == "corrected"
    piped = run(server, "results", JOB, "--failed", "-")
    assert (piped.stdout_bytes, piped.stderr) == (b"\xef\xbb\xbffailed", "")
    piped = run(server, "results", JOB, "--csv", "-")
    assert (piped.stdout_bytes, piped.stderr) == (b"\xef\xbb\xbfall", "")


def test_an_import_without_failed_rows_has_no_file_of_them(
    server: PinflowServer, tmp_path: Path
) -> None:
    server.documents[PATH] = build_job(build_result(1))
    result = run(server, "results", JOB, "--failed", str(tmp_path / "failed.csv"))
    assert (result.exit_code, list(tmp_path.iterdir())) == (ExitCode.REFUSED, [])
    assert "No row of this import failed" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--csv", "a.csv", "--status", "failed"),
        ("--failed", "a.csv", "--search", "x"),
        ("--csv", "a.csv", "--json"),
        ("--csv", "a.csv", "--failed", "b.csv"),
    ],
)
def test_a_file_is_never_a_part_of_the_results(
    server: PinflowServer, options: tuple[str, ...]
) -> None:
    result = run(server, "results", JOB, *options)
    assert (result.exit_code, server.requests) == (ExitCode.REFUSED, [])
    assert "write a whole file" in result.stderr


# Watch and show


@pytest.mark.parametrize("is_good", [True, False])
def test_an_import_is_followed_until_its_end(
    server: PinflowServer, monkeypatch: pytest.MonkeyPatch, is_good: bool
) -> None:
    ended = build_job(build_result(1) if is_good else build_failure(1))
    waiting = {**ended, "completed_at": None, "processed_rows": 0, "results": []}
    jobs = iter([waiting, waiting, ended, ended])
    answer = server.answer

    def answer_next(request: Request) -> Answer | None:
        noted = answer(request)
        return noted if request.path == "/v1/pins" else Answer(200, next(jobs))

    monkeypatch.setattr(server, "answer", answer_next)
    result = run(server, "watch", JOB)
    assert result.exit_code == (ExitCode.DONE if is_good else ExitCode.ROWS_FAILED)
    assert "1 of 1 rows have a result" in result.stdout
    queries = [request.query for request in server.requests if request.path != "/v1/pins"]
    assert queries == [{"include_results": "false"}] * 3 + [{}]


def test_the_timeline_of_a_row_is_shown(server: PinflowServer) -> None:
    events = [
        {"event": "accepted", "at": "2026-11-25T09:00:00.5Z", "detail": "Kafka has it."},
        {"event": "settled", "at": None, "detail": "created"},
    ]
    timeline = {"job_id": JOB, "row_number": 3, "status": None, "waiting": "It waits."}
    server.documents[f"{PATH}/rows/3"] = {**timeline, "events": events}
    shown = run(server, "show", JOB, "--row", "3").stdout
    lines = [line.split() for line in shown.splitlines()]
    assert ["waiting", "It", "waits."] in lines
    assert ["2026-11-25", "09:00:00Z", "accepted", "Kafka", "has", "it."] in lines
    assert ["settled", "created"] in lines
    assert "None" not in shown
    document = json.loads(run(server, "show", JOB, "--row", "3", "--json").stdout)
    assert document["events"] == events
    assert run(server, "show", JOB, "--row", "3", "--all").exit_code == ExitCode.REFUSED


# Retry


@pytest.mark.parametrize(
    ("texts", "corrections"),
    [
        ([], []),
        (["3:title=Desk = lamp"], [{"row_number": 3, "title": "Desk = lamp"}]),
        (
            ["3:title=A\nB", "12: run_at =", "3:link_url=https://a.example/x:1"],
            [
                {"row_number": 3, "title": "A\nB", "link_url": "https://a.example/x:1"},
                {"row_number": 12, "run_at": None},
            ],
        ),
    ],
)
def test_corrections_are_joined_by_row(texts: list[str], corrections: list[Any]) -> None:
    assert parse_corrections(texts) == corrections


@pytest.mark.parametrize("text", ["title=x", "3:title", "x:title=y", "3:=x", ":title=x", ""])
def test_a_correction_of_another_form_is_refused(server: PinflowServer, text: str) -> None:
    result = run(server, "retry", JOB, "--correct", text)
    assert (result.exit_code, server.requests) == (ExitCode.REFUSED, [])
    assert "ROW:FIELD=VALUE" in result.stderr


def test_a_field_is_corrected_once(server: PinflowServer) -> None:
    twice = ("--correct", "3:title=a", "--correct", "3:title=b")
    result = run(server, "retry", JOB, *twice)
    assert (result.exit_code, server.requests) == (ExitCode.REFUSED, [])


def test_failed_rows_are_retried_and_their_new_import_is_followed(server: PinflowServer) -> None:
    bodies = []
    child = build_job(build_result(1), id=CHILD, parent_id=JOB)

    def retry(document: Any) -> Answer:
        bodies.append(document)
        replay = {"Idempotent-Replayed": "true"} if len(bodies) > 1 else {}
        return Answer(202, child | {"completed_at": None}, replay)

    server.posts[f"{PATH}/retry"] = retry
    server.documents[f"{IMPORTS}/{CHILD}"] = child
    result = run(server, "retry", JOB, "--correct", "2:title=Lamp")
    assert result.exit_code == ExitCode.DONE, result.stderr
    assert bodies == [{"corrections": [{"row_number": 2, "title": "Lamp"}]}]
    assert f"Import {CHILD} with 1 row was accepted." in result.stdout
    assert f"Import {CHILD}: completed." in result.stdout
    again = run(server, "retry", JOB, "--no-wait")
    assert again.stdout == f"Import {CHILD} with 1 row was accepted before.\n"
    assert json.loads(run(server, "retry", JOB, "--json").stdout)["id"] == CHILD


def test_a_retry_without_failed_rows_is_refused(server: PinflowServer) -> None:
    message = "No row of this import failed."
    server.posts[f"{PATH}/retry"] = lambda _: refuse(409, "no_failed_rows", message)
    result = run(server, "retry", JOB)
    assert result.exit_code == ExitCode.REFUSED
    assert f"{message} (no_failed_rows)" in result.stderr


# Cancel


def build_cancellation(**fields: Any) -> dict[str, Any]:
    counters = {"total_rows": 5, "processed_rows": 5, "created_rows": 2, "existing_rows": 0}
    return {
        "id": JOB,
        "status": "completed_with_errors",
        **counters,
        "failed_rows": 3,
        "canceled_rows": 3,
        "unsettled_rows": 0,
        "canceled_schedules": [],
        "withdrawn_pins": [],
        "left": [],
        **fields,
    }


def test_waiting_rows_are_canceled_without_a_question(server: PinflowServer) -> None:
    server.posts[f"{PATH}/cancel"] = lambda _: build_cancellation()
    result = run(server, "cancel", JOB)
    assert result.exit_code == ExitCode.DONE
    assert server.requests[0].query == {}
    assert "2 created, 0 existing, 3 failed, of which 3 canceled." in result.stdout
    assert "schedule" not in result.stdout
    waiting = build_cancellation(processed_rows=4, unsettled_rows=1)
    server.posts[f"{PATH}/cancel"] = lambda _: waiting
    assert f"pinflow imports watch {JOB}" in run(server, "cancel", JOB).stdout


def test_canceling_an_ended_import_says_that_no_row_was_waiting(server: PinflowServer) -> None:
    server.posts[f"{PATH}/cancel"] = lambda _: build_cancellation(canceled_rows=0)
    result = run(server, "cancel", JOB)
    assert result.exit_code == ExitCode.DONE
    assert "No row was waiting for its result, so none was canceled." in result.stdout
    assert f"pinflow imports cancel {JOB} --scheduled" in result.stdout
    assert "No row was waiting" not in run(server, "cancel", JOB, "--scheduled", "--yes").stdout


def test_schedules_are_canceled_after_a_question_and_left_ones_are_named(
    server: PinflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = {"row_number": 1, "schedule_id": CHILD}
    left = [{**schedule, "reason": "changed"}]
    canceled = build_cancellation(canceled_schedules=[schedule], left=left)
    server.posts[f"{PATH}/cancel"] = lambda _: canceled
    refused = run(server, "cancel", JOB, "--scheduled")
    assert (refused.exit_code, server.requests) == (ExitCode.REFUSED, [])
    monkeypatch.setattr("deploy.cli.questions.can_ask", lambda: True)
    result = run(server, "cancel", JOB, "--scheduled", input="y\n")
    assert result.exit_code == ExitCode.PINS_LEFT
    assert server.requests[0].query == {"scheduled": "true"}
    assert "1 schedule was canceled, 1 left." in result.stdout
    assert f"{CHILD}  changed since by somebody" in result.stdout
    as_json = run(server, "cancel", JOB, "--scheduled", "--yes", "--json")
    assert json.loads(as_json.stdout) == canceled


def test_withdrawn_pins_are_counted(server: PinflowServer) -> None:
    pins = [{"row_number": number, "pin_id": CHILD} for number in (1, 2)]
    left = [{"row_number": 3, "pin_id": CHILD, "schedule_id": None, "reason": "publishing"}]
    server.posts[f"{PATH}/cancel"] = lambda _: build_cancellation(withdrawn_pins=pins, left=left)
    result = run(server, "cancel", JOB, "--scheduled", "--yes")
    assert result.exit_code == ExitCode.PINS_LEFT
    assert "0 schedules were canceled, 2 waiting pins withdrawn, 1 left." in result.stdout
    assert "being sent to Pinterest: run the command again" in result.stdout


def test_the_states_of_existing_rows_are_said_to_be_those_of_the_import(
    server: PinflowServer,
) -> None:
    advice = f"pinflow imports show {JOB} --row N"
    server.documents[PATH] = build_job(build_result(1))
    server.lists[f"{PATH}/results"] = [build_result(1)]
    commands = (("show", JOB, "--all"), ("results", JOB))
    assert all(advice not in run(server, *command).stdout for command in commands)
    existing = build_result(1, status="existing", existing_state="queued")
    server.documents[PATH] = build_job(existing)
    server.lists[f"{PATH}/results"] = [existing]
    for command in commands:
        shown = run(server, *command).stdout
        assert "A state is that at the time of the import." in shown
        assert advice in shown


# Undo


def serve_undo(
    server: PinflowServer, *, is_done: bool = False, left: bool = False, reason: str = "deleted"
) -> None:
    """Answers dry runs and undos. `is_done`: the import was undone before."""
    row = {"row_number": 1, "pin_id": CHILD, "schedule_id": None}
    undone = [{**row, "action": "deleted"}, {**row, "row_number": 2, "action": "canceled"}]
    kept = [{**row, "row_number": 3, "reason": reason}] if left else []

    def undo(_: Any) -> Answer:
        is_plan = server.requests[-1].query == {"dry_run": "true"}
        document = {
            "job_id": JOB,
            "dry_run": is_plan,
            "undone_rows": 2,
            "left_rows": len(kept),
            "undone": undone,
            "left": kept,
        }
        return Answer(200, document, {"Idempotent-Replayed": "true"} if is_done else {})

    server.posts[f"{PATH}/undo"] = undo


COUNTS = "1 pin deleted, 1 schedule canceled and deleted, 0 left."


def read_dry_runs(server: PinflowServer) -> list[bool]:
    return [request.query == {"dry_run": "true"} for request in server.requests]


def test_a_dry_run_undoes_nothing(server: PinflowServer) -> None:
    serve_undo(server)
    result = run(server, "undo", JOB, "--dry-run")
    assert (result.exit_code, read_dry_runs(server)) == (ExitCode.DONE, [True])
    assert f"An undo of import {JOB} would do this: {COUNTS} Nothing was changed." in result.stdout


@pytest.mark.parametrize(
    ("answer", "dry_runs"), [("y\n", [True, False]), ("n\n", [True]), ("", [True])]
)
def test_an_undo_shows_the_numbers_and_asks(
    server: PinflowServer, monkeypatch: pytest.MonkeyPatch, answer: str, dry_runs: list[bool]
) -> None:
    serve_undo(server)
    monkeypatch.setattr("deploy.cli.questions.can_ask", lambda: True)
    result = run(server, "undo", JOB, input=answer)
    assert read_dry_runs(server) == dry_runs
    assert f"{COUNTS} Undo it?" in result.stderr
    is_undone = len(dry_runs) > 1
    assert result.exit_code == (ExitCode.DONE if is_undone else ExitCode.REFUSED)
    assert (f"Import {JOB} is undone. {COUNTS}" in result.stdout) == is_undone


def test_without_a_terminal_an_undo_needs_yes(server: PinflowServer) -> None:
    serve_undo(server)
    refused = run(server, "undo", JOB)
    assert (refused.exit_code, read_dry_runs(server)) == (ExitCode.REFUSED, [True])
    assert "Nothing was undone" in refused.stderr
    server.requests.clear()
    assert run(server, "undo", JOB, "--yes").exit_code == ExitCode.DONE
    assert read_dry_runs(server) == [False]


def test_what_an_undo_left_is_named(server: PinflowServer) -> None:
    serve_undo(server, left=True)
    result = run(server, "undo", JOB, "--yes")
    assert result.exit_code == ExitCode.PINS_LEFT
    assert "3    " in result.stdout
    assert LEFT_REASONS["deleted"] in result.stdout
    assert "pinflow pins delete" not in result.stdout


def test_an_undo_says_how_to_delete_what_was_changed_since(server: PinflowServer) -> None:
    serve_undo(server, left=True, reason="changed")
    for option in ("--yes", "--dry-run"):
        result = run(server, "undo", JOB, option)
        assert result.exit_code == ExitCode.PINS_LEFT
        assert LEFT_REASONS["changed"] in result.stdout
        assert "pinflow pins delete PIN_ID… --from-pinterest" in result.stdout


def test_an_import_that_was_undone_before_needs_no_question(server: PinflowServer) -> None:
    serve_undo(server, is_done=True)
    result = run(server, "undo", JOB)
    assert result.exit_code == ExitCode.DONE
    assert f"Import {JOB} was undone before. {COUNTS}" in result.stdout


def test_an_undo_says_how_to_see_the_progress_of_removals(server: PinflowServer) -> None:
    row = {"row_number": 1, "pin_id": CHILD, "schedule_id": None, "action": "removing"}
    server.posts[f"{PATH}/undo"] = lambda _: {
        "job_id": JOB,
        "dry_run": False,
        "undone_rows": 1,
        "left_rows": 0,
        "undone": [row],
        "left": [],
    }
    result = run(server, "undo", JOB, "--yes")
    assert result.exit_code == ExitCode.DONE
    assert result.stdout.startswith(
        f"The undo of import {JOB} has begun. 0 pins deleted, 0 schedules canceled and deleted, "
        "1 pin to be removed from Pinterest and then deleted, 0 left.\n"
    )
    assert f"run the command again: pinflow imports undo {JOB}" in result.stdout


@pytest.mark.parametrize("delivery", ["pinterest", "none"])
def test_an_import_names_the_list_of_its_pins_if_they_go_to_pinterest(
    server: PinflowServer, delivery: str
) -> None:
    server.lists["/v1/pins"] = [{"id": CHILD, "delivery": delivery}]
    server.documents[PATH] = build_job(build_result(1))
    result = run(server, "show", JOB)
    assert result.exit_code == ExitCode.DONE, result.output
    is_delivered = delivery == "pinterest"
    assert (f"pinflow pins list --import {JOB}" in result.stdout) == is_delivered
    assert server.requests[-1].query["job_id"] == JOB


def test_every_reason_is_explained() -> None:
    assert set(LEFT_REASONS) == set(LeftReason)


UNDO = {"undone_at": "2026-12-01T10:24:12.5+00:00", "undone_rows": 2, "removing_rows": 0}


@pytest.mark.parametrize(
    ("undo", "line"),
    [
        ({"left_rows": 0}, "Undone at 2026-12-01 10:24:12Z: 2 pins deleted, 0 left."),
        ({"left_rows": 1}, "Partly undone at 2026-12-01 10:24:12Z: 2 pins deleted, 1 left."),
        (
            {"left_rows": 1, "removing_rows": 2},
            (
                "Undo began at 2026-12-01 10:24:12Z: 2 pins, of which 2 are still to be removed "
                "from Pinterest, 1 left."
            ),
        ),
    ],
)
def test_an_import_shows_that_it_was_undone(
    server: PinflowServer, undo: dict[str, Any], line: str
) -> None:
    server.documents[PATH] = build_job(build_result(1), undo={**UNDO, **undo})
    assert line in run(server, "show", JOB).stdout
    assert server.requests[0].query == {"include_undo": "true"}


def test_the_list_of_imports_shows_how_many_rows_were_undone(server: PinflowServer) -> None:
    job = build_job(build_result(1), created_at="2026-12-01T10:24:12Z", source_filename=None)
    server.lists[IMPORTS] = [{**job, "undo": {**UNDO, "left_rows": 0}}, {**job, "undo": None}]
    header, undone, kept = run(server, "list").stdout.splitlines()
    assert header.split()[6:8] == ["undone", "created_at"]
    assert undone.split()[6:8] == ["2", "2026-12-01"]
    assert kept.split()[6] == "2026-12-01"
    assert server.requests[0].query["include_undo"] == "true"
