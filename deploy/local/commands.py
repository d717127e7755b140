"""python -m deploy.local up | down | status | clean | demo"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from deploy.local.demo import run_demo
from deploy.local.layout import Layout, LocalError
from deploy.local.stack import Stack

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="The local stack. make help has the commands for everyday use.",
)


def _say(text: str) -> None:
    typer.echo(f"  {text}")


Brokers = Annotated[
    int | None,
    typer.Option(help="1 or 3, for new data. Without it: as many as the data was made with, or 1."),
]


@contextmanager
def _stack(brokers: int | None = None) -> Iterator[Stack]:
    stack = None
    try:
        stack = Stack(Layout.from_environment(), _say, brokers)
        yield stack
    except LocalError as error:
        typer.echo(f"\n{error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        runs = "make down stops what runs." if stack and stack.states() else "Nothing is running."
        typer.echo(f"\nInterrupted; run it again to go on from here. {runs}", err=True)
        sys.exit(130)


@app.command()
def up(brokers: Brokers = None) -> None:
    """Start what isn't running; wait until everything works."""
    with _stack(brokers) as stack:
        started = stack.up()
        typer.echo(
            f"Pinflow {'is' if started else 'was already'} up: {stack.base_url} (API "
            f"documentation: {stack.base_url}/docs)"
        )
        typer.echo(
            "Its addresses and an API key are in .pinflow/env, its logs in .pinflow/log. Stop it "
            "with: make down"
        )


@app.command()
def down() -> None:
    """Stop everything; the data stays."""
    with _stack() as stack:
        typer.echo(
            "Pinflow is down; its data is kept in .pinflow (make clean removes it)."
            if stack.down()
            else "Pinflow was not running."
        )


@app.command()
def status() -> None:
    """What is running."""
    with _stack() as stack:
        states = stack.states()
        for name, state in sorted(states.items()):
            typer.echo(f"{name:12} {state}")
        if not states:
            typer.echo("Pinflow is down. Start it with: make up")
            sys.exit(1)
        typer.echo(f"gateway at {stack.base_url}")


@app.command()
def clean() -> None:
    """Stop everything and delete its data."""
    with _stack() as stack:
        stack.clean()
        typer.echo("All data of the local stack has been deleted.")


@app.command()
def demo(brokers: Brokers = None) -> None:
    """Start the stack, import a campaign of 500 rows, show what became of it; stop what was
    started.
    """
    with _stack(brokers) as stack:
        was_up = bool(stack.states())
        try:
            stack.up()
            code = run_demo(stack, stays_up=was_up)
        finally:
            if not was_up:
                _say("stopping (the data is kept; make up starts it again)")
                stack.down()
        sys.exit(code)
