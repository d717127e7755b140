"""Commands that list and show pins and schedules, and cancel schedules."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from deploy.cli.client import PinflowClient
from deploy.cli.counts import number_of, part_of
from deploy.cli.exit_codes import ExitCode
from deploy.cli.options import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    BaseUrl,
    CreatedSince,
    CreatedUntil,
    Limit,
    MaxRetrySeconds,
    Yes,
    parse_id,
    time_option,
)
from deploy.cli.questions import require_confirmation
from deploy.cli.resources import show_list, show_resource
from deploy.cli.tables import print_fields, print_json, print_table
from deploy.cli.wording import name_options
from shared.contract.errors import ErrorCode
from shared.runtime.chunks import chunked

PINS = "/v1/pins"
MAX_IDS = 100
"""The largest number of ids in one request."""
CANCELED = "canceled"

pins = typer.Typer(
    no_args_is_help=True, help="List, show, edit, retry and delete the workspace's pins."
)
schedules = typer.Typer(
    no_args_is_help=True,
    help="List, show and cancel schedules: pins that are published at a later time.",
)


class PinStatusFilter(StrEnum):
    """The statuses of a pin, as in the API.

    A test compares them, because the command line imports no service.
    """

    QUEUED = "queued"
    DEFERRED = "deferred"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"


class ScheduleStatusFilter(StrEnum):
    """The statuses of a schedule, as in the API. A test compares them, too."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    DEFERRED = "deferred"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


class PinOrder(StrEnum):
    CREATED_AT_DESC = "created_at_desc"
    CREATED_AT_ASC = "created_at_asc"
    PUBLISHED_AT_DESC = "published_at_desc"
    PUBLISHED_AT_ASC = "published_at_asc"
    TITLE_ASC = "title_asc"
    TITLE_DESC = "title_desc"
    STATUS_ASC = "status_asc"
    STATUS_DESC = "status_desc"


class ScheduleOrder(StrEnum):
    RUN_AT_DESC = "run_at_desc"
    RUN_AT_ASC = "run_at_asc"
    CREATED_AT_DESC = "created_at_desc"
    CREATED_AT_ASC = "created_at_asc"
    TITLE_ASC = "title_asc"
    TITLE_DESC = "title_desc"
    STATUS_ASC = "status_asc"
    STATUS_DESC = "status_desc"


ByAccount = Annotated[
    UUID | None,
    typer.Option(
        "--account",
        metavar="ID",
        parser=parse_id,
        help="Only those of the account with this id, from pinflow template.",
    ),
]
ByImport = Annotated[
    UUID | None,
    typer.Option(
        "--import",
        metavar="JOB_ID",
        parser=parse_id,
        help="Only those that the import with this id created.",
    ),
]
ByBoard = Annotated[str | None, typer.Option("--board", help="Only those of this board id.")]
Search = Annotated[
    str | None,
    typer.Option(
        "--search", metavar="TEXT", help="Only those with this text in title, description or link."
    ),
]


@pins.command("list")
def list_pins(
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    limit: Limit = 20,
    status: Annotated[
        PinStatusFilter | None, typer.Option(help="Only pins with this status.")
    ] = None,
    account: ByAccount = None,
    board: ByBoard = None,
    job_id: ByImport = None,
    error_code: Annotated[
        str | None, typer.Option("--error-code", help="Only pins that failed with this code.")
    ] = None,
    since: CreatedSince = None,
    until: CreatedUntil = None,
    search: Search = None,
    sort: Annotated[PinOrder, typer.Option(help="The order.")] = PinOrder.CREATED_AT_DESC,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """List pins that are published, failed or due, newest first.

    A pin that waits for its run_at is a schedule: see pinflow schedules list. A
    deferred pin waits because its account is paused: see pinflow deliveries. Or
    it waits for its own image: see pinflow pins show. Times are in UTC.
    """
    filters = {
        "status": status,
        "account_id": str(account) if account else None,
        "board_id": board,
        "job_id": str(job_id) if job_id else None,
        "error_code": error_code,
        "since": since,
        "until": until,
        "q": search,
        "sort": sort,
    }
    columns = (
        "id",
        "status",
        "created_at",
        "board_id",
        "idempotency_key",
        "pinterest_pin_id",
        "error_code",
        "title",
    )
    show_list(
        PinflowClient(base_url, api_key, max_retry_seconds),
        PINS,
        filters,
        limit,
        {name: name for name in columns},
        empty_message="No pin is published, failed or due, or your filters exclude it. Pins that "
        "wait for their run_at are in: pinflow schedules list. To import pins: pinflow import FILE",
        as_json=as_json,
    )


@pins.command("show")
def show_pin(
    pin_id: Annotated[
        UUID, typer.Argument(parser=parse_id, help="The pin's id, as shown by lists and results.")
    ],
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """Show all fields of a pin that is published, failed or due. Times are in UTC."""
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        pin = client.read(f"{PINS}/{pin_id}")
    if as_json:
        print_json(pin)
        return
    if message := pin.get("error_message"):
        pin = {**pin, "error_message": name_options(message)}
    print_fields(pin)


@schedules.command("list")
def list_schedules(
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    limit: Limit = 20,
    status: Annotated[
        ScheduleStatusFilter | None, typer.Option(help="Only schedules with this status.")
    ] = None,
    account: ByAccount = None,
    board: ByBoard = None,
    job_id: ByImport = None,
    since: Annotated[
        str | None, time_option("--since", "Only schedules whose run_at is at this time or later")
    ] = None,
    until: Annotated[
        str | None, time_option("--until", "Only schedules whose run_at is before this time")
    ] = None,
    search: Search = None,
    sort: Annotated[ScheduleOrder, typer.Option(help="The order.")] = ScheduleOrder.RUN_AT_DESC,
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """List schedules, the latest run_at first. Times are in UTC."""
    filters = {
        "status": status,
        "account_id": str(account) if account else None,
        "board_id": board,
        "job_id": str(job_id) if job_id else None,
        "since": since,
        "until": until,
        "q": search,
        "sort": sort,
    }
    columns = {
        "id": "id",
        "status": "status",
        "run_at": "run_at",
        "board_id": "payload.board_id",
        "idempotency_key": "payload.idempotency_key",
        "title": "payload.title",
    }
    show_list(
        PinflowClient(base_url, api_key, max_retry_seconds),
        "/v1/schedules",
        filters,
        limit,
        columns,
        empty_message="There is no schedule, or your filters exclude it. A row with a run_at in "
        "the future becomes one: pinflow import FILE",
        as_json=as_json,
    )


@schedules.command("show")
def show_schedule(
    schedule_id: Annotated[
        UUID,
        typer.Argument(parser=parse_id, help="The schedule's id, as shown by lists and results."),
    ],
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """Show all fields of a schedule. Times are in UTC."""
    client = PinflowClient(base_url, api_key, max_retry_seconds)
    show_resource(client, f"/v1/schedules/{schedule_id}", as_json=as_json)


@schedules.command("cancel")
def cancel_schedules(
    schedule_ids: Annotated[
        list[UUID],
        typer.Argument(
            metavar="ID...",
            parser=parse_id,
            help="Ids of schedules, as shown by lists and results.",
        ),
    ],
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKey = "",
    max_retry_seconds: MaxRetrySeconds = 10,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cancel schedules, so that their pins are not published. Their idempotency keys stay taken.

    You can repeat the command: a schedule that is canceled already counts as
    canceled.

    Exit codes:
    0: all schedules are canceled
    1: some are not: they are published, have failed, or do not exist
    2: nothing was canceled: the request or the command line is wrong, or you answered no
    3: a server did not answer; try again
    """
    ids = [str(schedule_id) for schedule_id in dict.fromkeys(schedule_ids)]
    require_confirmation(f"Cancel {number_of(len(ids), 'schedule')}?", "canceled", yes=yes)
    with PinflowClient(base_url, api_key, max_retry_seconds) as client:
        results = _cancel(client, ids)
    outcomes = [_describe_outcome(result) for result in results]
    canceled = outcomes.count(CANCELED)
    if as_json:
        print_json(results)
    else:
        rows = zip(results, outcomes, strict=True)
        print_table(
            ["id", "outcome", "reason"],
            [[result["id"], outcome, result["error_message"]] for result, outcome in rows],
        )
        typer.echo(f"{part_of(canceled, len(ids), 'schedule')} {CANCELED}.")
    if canceled < len(ids):
        raise typer.Exit(ExitCode.SCHEDULES_NOT_CANCELED)


def _cancel(client: PinflowClient, ids: Sequence[str]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for chunk in chunked(ids, MAX_IDS):
        try:
            results += client.post("/v1/schedules/bulk-cancel", {"ids": chunk})["results"]
        except typer.Exit:
            if results:
                typer.echo(
                    f"The first {len(results)} ids were processed before that. Run the same "
                    "command again: it skips canceled schedules.",
                    err=True,
                )
            raise
    return results


def _describe_outcome(result: dict[str, Any]) -> str:
    """Returns what became of a schedule. A skipped one without an error was canceled before."""
    if result["status"] == "succeeded":
        return CANCELED
    if result["status"] == "skipped" and result["error_code"] is None:
        return CANCELED
    return "not found" if result["error_code"] == ErrorCode.NOT_FOUND else "not canceled"
