"""How a command ends: a sentence with the next step, and an exit code."""

from enum import IntEnum
from typing import NoReturn

import typer


class ExitCode(IntEnum):
    DONE = 0
    ROWS_FAILED = 1
    """The import was accepted and has ended; some of its rows failed, or all."""
    LETTERS_NOT_REPLAYED = 1
    """Dead letters were replayed; others that were meant too were not."""
    REFUSED = 2
    """Nothing was done: the request, or the command line, is wrong."""
    UNAVAILABLE = 3
    """A server did not answer, or not in time: try again."""
    LOSS_NOT_ACCEPTED = 4
    """Records are lost, and an operator must accept that: `pinflow recover --accept`."""


def fail(message: str, code: ExitCode = ExitCode.REFUSED) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)
