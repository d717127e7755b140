"""Commands that edit and delete pins, here and at Pinterest, and that retry failed pins."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from deploy.cli.client import ChangeAnswer, PinflowClient
from deploy.cli.counts import choose_verb, number_of, part_of
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.options import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    BaseUrl,
    MaxRetrySeconds,
    Yes,
    parse_id,
)
from deploy.cli.pins import MAX_IDS, PINS
from deploy.cli.questions import require_confirmation
from deploy.cli.tables import print_fields, print_json, print_table
from deploy.cli.wording import name_options
from shared.contract.errors import ErrorCode
from shared.runtime.chunks import chunked

Result = dict[str, Any]
"""The result for one pin: `id`, `outcome`, `error_code` and `error_message`."""
DELETED, REMOVED, RETRIED = "deleted", "removed", "retried"

commands = typer.Typer()

PinIds = Annotated[
    list[UUID],
    typer.Argument(
        metavar="ID...", parser=parse_id, help="Ids of pins, as shown by lists and results."
    ),
]
NewBoard = Annotated[
    str | None,
    typer.Option(
        "--board",
        metavar="ID",
        help="The id of the new board, not its name. pinflow template lists the ids.",
    ),
]
NAMES_OF_BOARDS = "--board takes the id of a board, not its name. To list the ids: pinflow template"


@commands.command("delete")
def delete_pins(
    pin_ids: PinIds,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    from_pinterest: Annotated[
        bool,
        typer.Option("--from-pinterest", help="Also remove the pins from Pinterest."),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete pins. Their idempotency keys stay taken.

    Without --from-pinterest, a pin that is on Pinterest stays there. With it, you
    can repeat the command until all pins are removed.

    Exit codes:
    0: all pins are deleted; with --from-pinterest also from Pinterest
    1: some are not, or not yet: see the reasons
    2: nothing was deleted: the request or the command line is wrong, or you answered no
    3: a server did not answer; try again
    """
    ids = _list_ids(pin_ids)
    place = "in Pinflow and at Pinterest" if from_pinterest else "in Pinflow"
    require_confirmation(f"Delete {number_of(len(ids), 'pin')} {place}?", DELETED, yes=yes)
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        if from_pinterest:
            results = _change_each(ids, lambda pin_id: _remove(client, pin_id))
        else:
            results = _change_all(client, "/v1/pins/bulk-delete", ids, DELETED)
    done = REMOVED if from_pinterest else DELETED
    _report(results, done, as_json=as_json)


@commands.command("edit")
def edit_pin(
    pin_id: Annotated[
        UUID, typer.Argument(parser=parse_id, help="The pin's id, as shown by lists and results.")
    ],
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    title: Annotated[str | None, typer.Option(help="The new title.")] = None,
    description: Annotated[
        str | None, typer.Option(help="The new description. An empty text removes it.")
    ] = None,
    link: Annotated[
        str | None, typer.Option(help="The new link. An empty text removes it.")
    ] = None,
    alt_text: Annotated[
        str | None, typer.Option("--alt-text", help="The new alt text. An empty one removes it.")
    ] = None,
    board: NewBoard = None,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """Change a pin that failed, or that is queued or deferred. Then show it.

    A failed pin is sent only when you retry it: pinflow pins retry ID. To give it
    another image, correct the row in your file, and import it with
    --on-existing update.

    Exit codes:
    0: the pin is changed
    2: nothing was changed: the pin is published or being sent, a value or the command line is \
wrong
    3: a server did not answer; try again
    """
    changes = _build_changes(
        {"title": title, "board_id": board},
        removable={"description": description, "link_url": link, "alt_text": alt_text},
    )
    if not changes:
        fail(
            "Nothing was changed. Name a change with --title, --description, --link, --alt-text "
            "or --board."
        )
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        answer = client.change("PATCH", f"{PINS}/{pin_id}", {}, changes)
    if answer.error_code is not None:
        fail(f"{answer.error_message} ({answer.error_code}){_advise_on_board(answer, board)}")
    pin = answer.document
    if as_json:
        print_json(pin)
        return
    print_fields(pin)
    if pin["status"] == "failed":
        typer.echo(f"The pin is changed. To send it again: pinflow pins retry {pin_id}")


@commands.command("retry")
def retry_pins(
    pin_ids: PinIds,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    account: Annotated[
        UUID | None,
        typer.Option(
            "--account",
            metavar="ID",
            parser=parse_id,
            help="The id of the new account. For a pin of Pinterest it must be connected.",
        ),
    ] = None,
    board: NewBoard = None,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    may_double: Annotated[
        bool,
        typer.Option(
            "--may-double",
            help="Also retry pins that failed with publish_unconfirmed. If Pinterest has such a "
            "pin already, there are two then: look at the board first.",
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Publish failed pins again. Pins of connected accounts wait for their delivery then.

    To list failed pins: pinflow pins list --status failed. With --board or
    --account, the pins go to another board or account.

    Exit codes:
    0: all pins are published or wait for their delivery
    1: some are not retried: see the reasons
    2: nothing was retried: the request or the command line is wrong, or you answered no
    3: a server did not answer; try again
    """
    ids = _list_ids(pin_ids)
    named = {"account_id": str(account) if account else None, "board_id": board}
    target = {name: value for name, value in named.items() if value is not None}
    if may_double:
        require_confirmation(
            f"Send {number_of(len(ids), 'pin')} again, although "
            f"{choose_verb(len(ids), 'it', 'they')} may be on Pinterest?",
            RETRIED,
            yes=yes,
        )
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        if may_double or target:
            results = _change_each(
                ids, lambda pin_id: _retry(client, pin_id, target, may_double=may_double)
            )
        else:
            results = _change_all(client, "/v1/pins/bulk-retry", ids, RETRIED)
    _report(results, RETRIED, as_json=as_json)


def _list_ids(pin_ids: Sequence[UUID]) -> list[str]:
    return [str(pin_id) for pin_id in dict.fromkeys(pin_ids)]


def _remove(client: PinflowClient, pin_id: str) -> Result:
    answer = client.change("DELETE", f"{PINS}/{pin_id}", {"delete_from_pinterest": "true"})
    if answer.error_code is not None:
        return _describe_refusal(pin_id, DELETED, answer.error_code, answer.error_message)
    document = answer.document
    # A pin that never was at Pinterest needs no removal there
    is_done = document["removed_from_pinterest"] or document["pinterest_pin_id"] is None
    return {
        "id": pin_id,
        "outcome": REMOVED if is_done else "deleted in Pinflow only",
        "error_code": None,
        "error_message": document["reason"],
    }


def _build_changes(
    fields: dict[str, str | None], *, removable: dict[str, str | None]
) -> dict[str, str | None]:
    """Builds the body of an edit from the options that are given.

    Null, which removes a field, stands for the empty text of a removable one.
    """
    changes = {name: value for name, value in fields.items() if value is not None}
    return changes | {name: value or None for name, value in removable.items() if value is not None}


def _retry(
    client: PinflowClient, pin_id: str, target: dict[str, str], *, may_double: bool
) -> Result:
    """Retries a pin alone, to another account or board if `target` has one."""
    parameters = {"may_double": "true" if may_double else None}
    answer = client.change("POST", f"{PINS}/{pin_id}/retry", parameters, target or None)
    if answer.error_code is not None:
        message = f"{answer.error_message}{_advise_on_board(answer, target.get('board_id'))}"
        return _describe_refusal(pin_id, RETRIED, answer.error_code, message)
    return {"id": pin_id, "outcome": RETRIED, "error_code": None, "error_message": None}


def _advise_on_board(answer: ChangeAnswer, board: str | None) -> str:
    is_unknown = board is not None and answer.error_code == ErrorCode.BOARD_NOT_FOUND
    return f" {NAMES_OF_BOARDS}" if is_unknown else ""


def _change_each(ids: Sequence[str], change: Callable[[str], Result]) -> list[Result]:
    results: list[Result] = []
    for pin_id in ids:
        try:
            results.append(change(pin_id))
        except typer.Exit:
            _describe_interruption(len(results))
            raise
    return results


def _change_all(client: PinflowClient, path: str, ids: Sequence[str], done: str) -> list[Result]:
    results: list[Result] = []
    for chunk in chunked(ids, MAX_IDS):
        try:
            changed = client.post(path, {"ids": chunk})["results"]
        except typer.Exit:
            _describe_interruption(len(results))
            raise
        results += [
            {"id": result["id"], "outcome": done, "error_code": None, "error_message": None}
            if result["status"] == "succeeded"
            else _describe_refusal(
                result["id"], done, result["error_code"], result["error_message"]
            )
            for result in changed
        ]
    return results


def _describe_refusal(
    pin_id: str, done: str, error_code: str | None, error_message: str | None
) -> Result:
    is_missing = error_code == ErrorCode.NOT_FOUND
    return {
        "id": pin_id,
        "outcome": "not found" if is_missing else f"not {done}",
        "error_code": error_code,
        "error_message": None if error_message is None else name_options(error_message),
    }


def _describe_interruption(count: int) -> None:
    if count:
        typer.echo(
            f"The first {count} pins were processed before that. Run the same command again.",
            err=True,
        )


def _report(results: Sequence[Result], done: str, *, as_json: bool) -> None:
    count = sum(result["outcome"] == done for result in results)
    if as_json:
        print_json(results)
    else:
        columns = ("id", "outcome", "error_code", "error_message")
        rows = [[result[name] for name in columns] for result in results]
        print_table(["id", "outcome", "error_code", "reason"], rows)
        typer.echo(f"{part_of(count, len(results), 'pin')} {done}.")
    if count < len(results):
        raise typer.Exit(ExitCode.PINS_NOT_CHANGED)
