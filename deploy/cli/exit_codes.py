"""Ends a command with a message that has the next step, and with an exit code."""

from enum import IntEnum
from typing import NoReturn

import typer


class ExitCode(IntEnum):
    DONE = 0
    ROWS_FAILED = 1
    """The import was accepted and has ended. Some or all of its rows failed."""
    LETTERS_NOT_REPLAYED = 1
    """Dead letters were replayed, but not all that were selected."""
    SCHEDULES_NOT_CANCELED = 1
    """Schedules were canceled, but not all that were named."""
    PINS_NOT_CHANGED = 1
    """Pins were deleted or retried, but not all that were named."""
    ACCOUNTS_PAUSED = 1
    """Pins wait for their delivery, and at least one account is paused. Or the account that
    `pinflow deliveries resume` names stays paused, or the app is."""
    PINS_LEFT = 1
    """An import was undone, or its schedules were canceled, but some pins were left."""
    REFUSED = 2
    """The request, the command line or a setting is wrong. Usually nothing was done."""
    UNAVAILABLE = 3
    """A server did not answer in time, rows may still settle, or the user stopped the command. Try
    again."""
    LOSS_NOT_ACCEPTED = 4
    """Records are lost, and an operator must accept that: `pinflow recover --accept`."""


def fail(message: str, code: ExitCode = ExitCode.REFUSED) -> NoReturn:
    """Prints the message to standard error and ends the command."""
    typer.echo(message, err=True)
    raise typer.Exit(code)
