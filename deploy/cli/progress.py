"""Shows the progress of a command on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def build_progress(unit: str) -> Progress:
    """Builds a progress bar that counts in `unit`, such as rows."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=console,
        # Results go to standard output, which may be a file: the progress must not redirect it
        redirect_stdout=False,
        # In a log rich would print one line at the end, after a refusal too
        disable=not console.is_terminal,
    )


@contextmanager
def show_waiting(text: str) -> Iterator[None]:
    """Shows that the command waits. Without a terminal, says so once."""
    console = Console(stderr=True)
    if not console.is_terminal:
        typer.echo(text, err=True)
        yield
        return
    with console.status(text):
        yield
