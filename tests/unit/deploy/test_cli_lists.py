"""`pinflow pins` and `pinflow schedules`, with the real HTTP client and a small server."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from deploy.cli.pins import (
    MAX_IDS,
    PinOrder,
    PinStatusFilter,
    ScheduleOrder,
    ScheduleStatusFilter,
)
from services.publisher.pins.lists.filters import PinFilters, ScheduleFilters
from services.publisher.pins.lists.sorting import PinSort, ScheduleSort
from services.publisher.pins.statuses import PinStatus, ScheduleStatus
from tests.support.pinflow_server import PinflowServer, running_server

BULK_CANCEL = "/v1/schedules/bulk-cancel"


@pytest.fixture
def server() -> Iterator[PinflowServer]:
    with running_server(lists={"/v1/pins": [], "/v1/schedules": []}) as server:
        yield server


def run(server: PinflowServer, *arguments: str, **options: Any) -> Result:
    variables = {"PINFLOW_BASE_URL": server.url, "PINFLOW_API_KEY": "pf_key"}
    return CliRunner().invoke(app, list(arguments), env=variables, **options)


def build_pin(**fields: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "status": "published",
        "created_at": "2026-11-25T09:00:00.123456Z",
        "board_id": "159672443110240000",
        "idempotency_key": "lamp-1",
        "pinterest_pin_id": "889900000000000001",
        "error_code": None,
        "title": "Lamp",
        **fields,
    }


def build_schedule(**fields: Any) -> dict[str, Any]:
    payload = {"board_id": "159672443110240000", "idempotency_key": "lamp-1", "title": "Lamp"}
    return {
        "id": str(uuid4()),
        "status": "scheduled",
        "run_at": "2031-05-01T09:00:00+02:00",
        "payload": payload,
        "last_error": None,
        **fields,
    }


def test_pins_are_listed_with_whole_ids_and_readable_times(server: PinflowServer) -> None:
    pin = build_pin()
    server.lists["/v1/pins"] = [pin]
    result = run(server, "pins", "list")
    assert result.exit_code == ExitCode.DONE
    header, line = result.stdout.splitlines()
    assert header.split() == [
        *("id", "status", "created_at", "board_id", "idempotency_key", "pinterest_pin_id"),
        *("error_code", "title"),
    ]
    assert line.split() == [
        *(pin["id"], "published", "2026-11-25", "09:00:00Z", pin["board_id"], "lamp-1"),
        *(pin["pinterest_pin_id"], "Lamp"),
    ]
    assert server.requests[0].headers["x-api-key"] == "pf_key"


def test_schedules_are_listed_in_utc_with_the_fields_of_their_pins(server: PinflowServer) -> None:
    schedule = build_schedule()
    server.lists["/v1/schedules"] = [schedule]
    result = run(server, "schedules", "list")
    assert "2031-05-01 07:00:00Z" in result.stdout
    assert schedule["id"] in result.stdout
    assert result.stdout.splitlines()[1].rstrip().endswith("lamp-1           Lamp")


def test_every_filter_is_sent(server: PinflowServer) -> None:
    account, job = str(uuid4()), str(uuid4())
    shared = (
        *("--account", account, "--board", "7", "--import", job, "--search", "oak"),
        *("--limit", "3"),
    )
    times = ("--since", "2026-03-06T10:00Z", "--until", "2026-03-07")
    run(server, "pins", "list", "--status", "failed", "--error-code", "x", *shared, *times)
    run(server, "schedules", "list", "--status", "done", "--sort", "title_asc", *shared, *times)
    pins, schedules = (request.query for request in server.requests)
    common = {
        "account_id": account,
        "board_id": "7",
        "job_id": job,
        "q": "oak",
        "limit": "3",
        "since": "2026-03-06T10:00:00+00:00",
        "until": "2026-03-07T00:00:00+00:00",
    }
    assert pins == {
        **common,
        "status": "failed",
        "error_code": "x",
        "sort": "created_at_desc",
    }
    assert schedules == {**common, "status": "done", "sort": "title_asc"}
    PinFilters.model_validate(pins)
    ScheduleFilters.model_validate(schedules)


def test_statuses_and_orders_are_those_of_the_api() -> None:
    assert {str(status) for status in PinStatusFilter} == set(PinStatus)
    assert {str(status) for status in ScheduleStatusFilter} == set(ScheduleStatus)
    assert {str(order) for order in PinOrder} == set(PinSort)
    assert {str(order) for order in ScheduleOrder} == set(ScheduleSort)


def test_a_long_list_is_read_page_by_page_from_the_same_address(server: PinflowServer) -> None:
    server.lists["/v1/pins"] = [build_pin() for _ in range(450)]
    result = run(server, "pins", "list", "--limit", "420", "--json")
    assert [pin["id"] for pin in json.loads(result.stdout)] == [
        pin["id"] for pin in server.lists["/v1/pins"][:420]
    ]
    assert [request.query.get("cursor") for request in server.requests] == [None, "200", "400"]
    assert "Shown: 420 of 450. Show more with --limit." in result.stderr


@pytest.mark.parametrize(
    ("command", "advice"), [("pins", "pinflow import FILE"), ("schedules", "pinflow import FILE")]
)
def test_an_empty_list_says_what_to_do(server: PinflowServer, command: str, advice: str) -> None:
    assert advice in run(server, command, "list").stdout
    assert json.loads(run(server, command, "list", "--json").stdout) == []


@pytest.mark.parametrize(
    "command",
    [
        ("pins", "list", "--account", "Shop"),
        ("pins", "show", "Shop"),
        ("schedules", "show", "Shop"),
        ("schedules", "cancel", "Shop", "--yes"),
    ],
)
def test_a_name_in_place_of_an_id_is_refused_with_an_example(
    server: PinflowServer, command: tuple[str, ...]
) -> None:
    refused = run(server, *command)
    assert refused.exit_code == ExitCode.REFUSED
    assert "must be an id, for example" in refused.stderr
    assert not server.requests


def test_a_time_that_is_none_is_refused_with_an_example(server: PinflowServer) -> None:
    result = run(server, "pins", "list", "--since", "yesterday")
    assert result.exit_code == ExitCode.REFUSED
    assert "2026-03-06T10:00Z" in result.stderr
    assert server.requests == []


@pytest.mark.parametrize("command", ["pins", "schedules"])
def test_an_item_is_shown_with_its_fields(server: PinflowServer, command: str) -> None:
    item = build_pin() if command == "pins" else build_schedule()
    server.documents[f"/v1/{command}/{item['id']}"] = item
    shown = run(server, command, "show", item["id"])
    assert {"id", "status"} <= {line.split()[0] for line in shown.stdout.splitlines()}
    assert "error_code" not in shown.stdout
    assert json.loads(run(server, command, "show", item["id"], "--json").stdout) == item
    missing = run(server, command, "show", str(uuid4()))
    assert (missing.exit_code, "not_found" in missing.stderr) == (ExitCode.REFUSED, True)


def cancel(server: PinflowServer, outcomes: dict[str, tuple[str, str | None]]) -> None:
    """Lets the server answer each id with a status and an error code. Default: succeeded."""

    def answer(document: dict[str, list[str]]) -> object:
        results = [
            {
                "id": schedule_id,
                "status": (outcome := outcomes.get(schedule_id, ("succeeded", None)))[0],
                "error_code": outcome[1],
                "error_message": None if outcome[0] == "succeeded" else "The reason.",
            }
            for schedule_id in document["ids"]
        ]
        return {"results": results}

    server.posts[BULK_CANCEL] = answer


def test_schedules_are_canceled_and_each_outcome_is_shown(server: PinflowServer) -> None:
    done, again, published, unknown = (str(uuid4()) for _ in range(4))
    outcomes = {
        again: ("skipped", None),
        published: ("skipped", "schedule_not_pending"),
        unknown: ("failed", "not_found"),
    }
    cancel(server, outcomes)
    result = run(server, "schedules", "cancel", done, again, published, unknown, done, "--yes")
    assert result.exit_code == ExitCode.SCHEDULES_NOT_CANCELED
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in result.stdout.splitlines()}
    assert lines[done] == "canceled"
    assert lines[again] == "canceled The reason."
    assert lines[published] == "not canceled The reason."
    assert lines[unknown] == "not found The reason."
    assert "2 of 4 schedules canceled." in result.stdout


def test_schedules_that_are_all_canceled_are_exit_code_0(server: PinflowServer) -> None:
    ids = [str(uuid4()) for _ in range(MAX_IDS + 1)]
    cancel(server, {})
    result = run(server, "schedules", "cancel", *ids, "--yes", "--json")
    assert result.exit_code == ExitCode.DONE
    assert [item["id"] for item in json.loads(result.stdout)] == ids
    assert len(server.requests) == 2


def test_nothing_is_canceled_without_an_answer(server: PinflowServer) -> None:
    result = run(server, "schedules", "cancel", str(uuid4()))
    assert (result.exit_code, server.requests) == (ExitCode.REFUSED, [])
    assert "Add --yes" in result.stderr


@pytest.mark.parametrize(("answer", "count"), [("y\n", 1), ("n\n", 0), ("", 0)])
def test_the_command_asks_on_a_terminal(
    server: PinflowServer, monkeypatch: pytest.MonkeyPatch, answer: str, count: int
) -> None:
    monkeypatch.setattr("deploy.cli.questions.can_ask", lambda: True)
    cancel(server, {})
    result = run(server, "schedules", "cancel", str(uuid4()), input=answer)
    assert len(server.requests) == count
    assert result.exit_code == (ExitCode.DONE if count else ExitCode.REFUSED)
    assert "Cancel 1 schedule?" in result.stderr


def test_an_unknown_status_is_named_without_words_of_a_library(server: PinflowServer) -> None:
    result = run(server, "pins", "list", "--status", "foo", terminal_width=200)
    assert result.exit_code == ExitCode.REFUSED
    assert "Value error" not in result.stderr
    assert "'foo' is not one of 'queued'" in result.stderr
