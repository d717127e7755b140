"""Asks the user on a terminal. No answer, such as Ctrl+C or the end of input, means no."""

import sys
from collections.abc import Collection

import typer

from deploy.cli.exit_codes import fail


def can_ask() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirm(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        typer.echo(err=True)
        return False


def require_confirmation(question: str, done: str, *, yes: bool) -> None:
    """Ends the command, in which nothing was `done`, unless the user agrees or has agreed."""
    if yes:
        return
    if not can_ask():
        fail(f"Nothing was {done}, because the command can't ask you here. Add --yes.")
    if not confirm(question):
        fail(f"Nothing was {done}.")


def choose(question: str, letters: Collection[str], *, no: str) -> str:
    """Asks until one of the letters is typed. Returns `no` if there is no answer."""
    try:
        while True:
            typed: str = typer.prompt(f"{question} [{'/'.join(letters)}]", err=True)
            if (letter := typed.strip().lower()[:1]) in letters:
                return letter
    except typer.Abort:
        typer.echo(err=True)
        return no
