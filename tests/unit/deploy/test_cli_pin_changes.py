"""`pinflow pins edit`, `delete` and `retry`, with the real HTTP client and a small server."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from tests.support.pinflow_server import Answer, PinflowServer, refuse, running_server

FIRST, SECOND = str(uuid4()), str(uuid4())


@pytest.fixture
def server() -> Iterator[PinflowServer]:
    with running_server() as server:
        yield server


def run(server: PinflowServer, *arguments: str) -> Result:
    variables = {"PINFLOW_BASE_URL": server.url, "PINFLOW_API_KEY": "pf_key"}
    return CliRunner().invoke(app, ["pins", *arguments], env=variables)


def answer_bulk(**refusals: tuple[str, str]) -> Any:
    """Answers a bulk command. `refusals` has the code and the message by the id's hex digits."""

    def answer(document: dict[str, list[str]]) -> dict[str, Any]:
        results = []
        for pin_id in document["ids"]:
            code, message = refusals.get(pin_id.replace("-", ""), (None, None))
            status = "succeeded" if code is None else "skipped"
            results.append(
                {"id": pin_id, "status": status, "error_code": code, "error_message": message}
            )
        return {"results": results}

    return answer


def test_pins_are_deleted_together(server: PinflowServer) -> None:
    server.posts["/v1/pins/bulk-delete"] = answer_bulk()
    result = run(server, "delete", FIRST, SECOND, FIRST, "--yes")
    assert result.exit_code == ExitCode.DONE, result.output
    assert "2 of 2 pins deleted." in result.stdout
    assert json.loads(server.requests[0].body) == {"ids": [FIRST, SECOND]}


def test_a_pin_that_is_being_sent_is_not_deleted(server: PinflowServer) -> None:
    refusal = {FIRST.replace("-", ""): ("pin_publishing", "Try again in a minute.")}
    server.posts["/v1/pins/bulk-delete"] = answer_bulk(**refusal)
    result = run(server, "delete", FIRST, SECOND, "--yes")
    assert result.exit_code == ExitCode.PINS_NOT_CHANGED
    assert "not deleted" in result.stdout
    assert "Try again in a minute." in result.stdout
    assert "1 of 2 pins deleted." in result.stdout


def test_nothing_is_deleted_without_a_yes(server: PinflowServer) -> None:
    result = run(server, "delete", FIRST)
    assert (result.exit_code, server.requests) == (ExitCode.REFUSED, [])


@pytest.mark.parametrize(
    ("answer", "outcome", "code"),
    [
        ({"removed_from_pinterest": True, "reason": None}, "removed", ExitCode.DONE),
        (
            {"removed_from_pinterest": False, "reason": "The account is paused."},
            "deleted in Pinflow only",
            ExitCode.PINS_NOT_CHANGED,
        ),
        (
            {"removed_from_pinterest": False, "pinterest_pin_id": None, "reason": "Never sent."},
            "removed",
            ExitCode.DONE,
        ),
    ],
)
def test_pins_are_removed_from_pinterest_one_by_one(
    server: PinflowServer, answer: dict[str, Any], outcome: str, code: ExitCode
) -> None:
    document = {"id": FIRST, "deleted": True, "pinterest_pin_id": "8899", **answer}
    server.deletes[f"/v1/pins/{FIRST}"] = lambda query: Answer(200, {**document, **query})
    result = run(server, "delete", FIRST, "--from-pinterest", "--yes", "--json")
    assert result.exit_code == code
    (removed,) = json.loads(result.stdout)
    assert (removed["outcome"], removed["error_message"]) == (outcome, answer["reason"])
    assert server.requests[0].query == {"delete_from_pinterest": "true"}


def test_a_pin_that_does_not_exist_does_not_end_the_command(server: PinflowServer) -> None:
    removed = {"removed_from_pinterest": True, "pinterest_pin_id": "8899", "reason": None}
    server.deletes[f"/v1/pins/{FIRST}"] = lambda _: refuse(404, "not_found", "There is none.")
    server.deletes[f"/v1/pins/{SECOND}"] = lambda _: Answer(200, removed)
    result = run(server, "delete", FIRST, SECOND, "--from-pinterest", "--yes")
    assert result.exit_code == ExitCode.PINS_NOT_CHANGED
    assert "not found" in result.stdout
    assert "1 of 2 pins removed." in result.stdout


def test_failed_pins_are_retried_together(server: PinflowServer) -> None:
    message = "Look at the board first. If it is not there, retry with may_double=true."
    refusal = {SECOND.replace("-", ""): ("publish_unconfirmed", message)}
    server.posts["/v1/pins/bulk-retry"] = answer_bulk(**refusal)
    result = run(server, "retry", FIRST, SECOND)
    assert result.exit_code == ExitCode.PINS_NOT_CHANGED
    assert "publish_unconfirmed" in result.stdout
    assert "retry with --may-double." in " ".join(result.stdout.split())
    assert "1 of 2 pins retried." in result.stdout


def test_a_pin_that_may_be_on_pinterest_is_sent_again_only_if_the_user_says_so(
    server: PinflowServer,
) -> None:
    server.posts[f"/v1/pins/{FIRST}/retry"] = lambda _: {"id": FIRST, "status": "queued"}
    refused = run(server, "retry", FIRST, "--may-double")
    assert (refused.exit_code, server.requests) == (ExitCode.REFUSED, [])
    result = run(server, "retry", FIRST, "--may-double", "--yes")
    assert result.exit_code == ExitCode.DONE, result.output
    assert server.requests[0].query == {"may_double": "true"}


def test_a_failed_pin_is_retried_to_another_board_and_account(server: PinflowServer) -> None:
    server.posts[f"/v1/pins/{FIRST}/retry"] = lambda _: {"id": FIRST, "status": "queued"}
    result = run(server, "retry", FIRST, "--board", "123456", "--account", SECOND)
    assert result.exit_code == ExitCode.DONE, result.output
    (request,) = server.requests
    assert json.loads(request.body) == {"account_id": SECOND, "board_id": "123456"}
    assert request.query == {}


def test_a_name_of_a_board_is_refused_with_the_command_that_lists_ids(
    server: PinflowServer,
) -> None:
    unknown = refuse(422, "board_not_found", "board_id: there is none.")
    server.posts[f"/v1/pins/{FIRST}/retry"] = lambda _: unknown
    server.patches[f"/v1/pins/{FIRST}"] = lambda _: unknown
    retried = run(server, "retry", FIRST, "--board", "Board 2")
    assert retried.exit_code == ExitCode.PINS_NOT_CHANGED
    assert "pinflow template" in " ".join(retried.stdout.split())
    edited = run(server, "edit", FIRST, "--board", "Board 2")
    assert edited.exit_code == ExitCode.REFUSED
    assert "board_id: there is none. (board_not_found) --board takes" in edited.stderr
    assert "pinflow template" in edited.stderr
    without = run(server, "retry", FIRST, "--account", SECOND)
    assert "pinflow template" not in " ".join(without.stdout.split())


def test_an_edit_sends_only_the_named_fields_and_an_empty_text_clears_one(
    server: PinflowServer,
) -> None:
    failed = {"id": FIRST, "status": "failed", "title": "Lamp"}
    server.patches[f"/v1/pins/{FIRST}"] = lambda _: failed
    result = run(server, "edit", FIRST, "--title", "Lamp", "--link", "", "--alt-text", "A lamp")
    assert result.exit_code == ExitCode.DONE, result.output
    assert json.loads(server.requests[0].body) == {
        "title": "Lamp",
        "link_url": None,
        "alt_text": "A lamp",
    }
    assert f"pinflow pins retry {FIRST}" in result.stdout
    as_json = run(server, "edit", FIRST, "--board", "123456", "--description", "Warm", "--json")
    assert json.loads(as_json.stdout) == failed


def test_an_edit_of_a_published_pin_or_without_a_change_is_refused(server: PinflowServer) -> None:
    without = run(server, "edit", FIRST)
    assert (without.exit_code, server.requests) == (ExitCode.REFUSED, [])
    assert "--title" in without.stderr
    server.patches[f"/v1/pins/{FIRST}"] = lambda _: refuse(
        409, "pin_already_published", "This pin is published."
    )
    result = run(server, "edit", FIRST, "--title", "Lamp")
    assert result.exit_code == ExitCode.REFUSED
    assert "This pin is published. (pin_already_published)" in result.stderr
