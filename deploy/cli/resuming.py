"""The command `pinflow deliveries resume`: ends a pause before its time."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from deploy.cli.counts import choose_verb, number_of
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.options import parse_id
from deploy.cli.tables import format_time, printable
from shared.access.connection_health import RECONNECT_CODES

if TYPE_CHECKING:
    from deploy.administration import ResumedAccount

commands = typer.Typer()

_AGAIN = "Pinterest may refuse again: then the pause begins anew, and may be longer."
_HINTS = {
    "quota_exceeded": (
        "The limit of the day still applies. Raise PINFLOW_DELIVERY_DAILY_PINS, or "
        "PINFLOW_DELIVERY_APP_WRITES_PER_DAY, and restart the publisher and the delivery."
    ),
}
_RECONNECT = (
    "If Pinterest refuses again, connect the account again: pinflow accounts connect --account {}"
)
_BLOCKED = (
    "Account {account_id} waits for Pinterest's limit of changes until {until}. Nobody can end "
    "that limit early. Pinflow tries the next pin nevertheless: if Pinterest refuses it, the wait "
    "begins anew. If this happens often, lower PINFLOW_DELIVERY_ACCOUNT_WRITES_PER_MINUTE, restart "
    "the publisher and the delivery, and look for other programs that use the same app."
)
_GIVEN_UP = (
    "Account {account_id} stays paused: it has no access to Pinterest any more ({code}). Its pause "
    "ends when it is connected again: pinflow accounts connect --account {account_id}"
)


@commands.command("resume")
def resume_deliveries(
    account_id: Annotated[
        UUID | None,
        typer.Argument(parser=parse_id, help="The account's id, from pinflow deliveries."),
    ] = None,
    *,
    app: Annotated[
        bool, typer.Option("--app", help="End the pause of all accounts: the one of the app.")
    ] = False,
) -> None:
    """End the pause of an account or of the app before its time. For operators.

    Also ends the waits of the account's own pins and removals. Use it if you
    know that the cause is gone: Pinterest may refuse again. Needs
    PINFLOW_DATABASE_URL.

    Exit codes:
    0: nothing is paused any more of what you named
    1: the account stays paused: the app is, or the account must be connected again
    2: there is no such account, or the command line is wrong
    3: Postgres did not answer; try again
    """
    if (account_id is None) != app:
        fail("Give either an account's id or --app. See what is paused: pinflow deliveries")
    if account_id is None:
        _resume_app()
    else:
        _resume_account(account_id)


def _resume_app() -> None:
    from deploy.cli import backend  # noqa: PLC0415 - a second, and other commands don't need it

    pauses = backend.with_deliveries(lambda deliveries: deliveries.resume_app())
    if not pauses:
        typer.echo("The app is not paused. See what is: pinflow deliveries")
        return
    for pause in pauses:
        typer.echo(f"Ended the pause of the app in the mode {pause['mode']}: {_describe(pause)}")
    typer.echo("One pin is sent first. If Pinterest takes it, the others follow.")
    _print_hints({pause["pause_code"] for pause in pauses}, None)


def _resume_account(account_id: UUID) -> None:
    from deploy.cli import backend  # noqa: PLC0415 - a second, and other commands don't need it

    resumed: ResumedAccount | None = backend.with_deliveries(
        lambda deliveries: deliveries.resume_account(account_id)
    )
    if resumed is None:
        fail(f"There is no account {account_id}. See what is paused: pinflow deliveries")
    code = resumed.given_up_code
    if code is not None:  # the delivery process pauses it again before it sends anything
        typer.echo(_GIVEN_UP.format(account_id=account_id, code=code))
    else:
        _print_waits(account_id, resumed)
    if resumed.pins:
        typer.echo(
            f"{number_of(resumed.pins, 'pin')} that waited by "
            f"{choose_verb(resumed.pins, 'itself is sent in its', 'themselves are sent in their')} "
            "turn."
        )
    if resumed.removals:
        typer.echo(
            f"{number_of(resumed.removals, 'removal')} that waited "
            f"{choose_verb(resumed.removals, 'is tried in its', 'are tried in their')} turn."
        )
    if code is None and resumed.pause is not None:
        _print_hints({resumed.pause["pause_code"]}, account_id)
    elif code is None and (resumed.pins or resumed.removals):
        typer.echo(_AGAIN)
    for pause in resumed.app_pauses:
        typer.echo(
            f"The app is paused in the mode {pause['mode']}, which stops all accounts: "
            f"{_describe(pause)} To end that pause: pinflow deliveries resume --app"
        )
    if resumed.app_pauses or code is not None:
        raise typer.Exit(ExitCode.ACCOUNTS_PAUSED)


def _print_waits(account_id: UUID, resumed: "ResumedAccount") -> None:
    """Prints the pause that was ended, and Pinterest's limit, which nobody can end."""
    if resumed.pause is not None:
        typer.echo(f"Ended the pause of account {account_id}: {_describe(resumed.pause)}")
    if resumed.blocked_until is not None:
        until = format_time(resumed.blocked_until.isoformat())
        typer.echo(_BLOCKED.format(account_id=account_id, until=until))
    elif resumed.pause is None:
        typer.echo(f"Account {account_id} is not paused.")


def _describe(pause: Mapping[str, Any]) -> str:
    until = format_time(pause["paused_until"].isoformat())
    return f"{pause['pause_code']}, until {until}. {printable(pause['pause_message'])}"


def _print_hints(codes: set[str], account_id: UUID | None) -> None:
    typer.echo(_AGAIN)
    for code in sorted(codes):
        if code in _HINTS:
            typer.echo(_HINTS[code])
        if code in RECONNECT_CODES:
            typer.echo(_RECONNECT.format(account_id))
