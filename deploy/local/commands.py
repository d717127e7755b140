"""Commands of the local stack: python -m deploy.local up | down | status | clean | demo."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

import typer

from deploy.local.demo import require_no_real_account, run_demo
from deploy.local.layout import Layout, LocalError
from deploy.local.stack import Stack

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Run Pinflow on this machine. For everyday use see: make help",
)


def _report(text: str) -> None:
    typer.echo(f"  {text}")


Brokers = Annotated[
    int | None,
    typer.Option(
        help="Number of Kafka brokers: 1 or 3. It can't change once there is data. Default: the "
        "number of the existing data, or 1."
    ),
]
Pinterest = Annotated[
    str | None,
    typer.Option(
        help="simulated: accounts are connected to a simulator of Pinterest, which runs here. off: "
        "no simulator. Default: the choice of the last start, or off."
    ),
]


@contextmanager
def _stack(brokers: int | None = None, pinterest: str | None = None) -> Iterator[Stack]:
    stack = None
    try:
        stack = Stack(Layout.from_environment(), _report, brokers, pinterest)
        yield stack
    except LocalError as error:
        typer.echo(f"\n{error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        is_running = stack is not None and bool(stack.states())
        advice = "To stop the stack: make down." if is_running else "Nothing is running."
        typer.echo(f"\nInterrupted. Run the command again to continue. {advice}", err=True)
        sys.exit(130)


@app.command()
def up(brokers: Brokers = None, pinterest: Pinterest = None) -> None:
    """Start all processes that are not running, and wait until Pinflow is ready."""
    with _stack(brokers, pinterest) as stack:
        started = stack.up()
        typer.echo(f"Pinflow {'is' if started else 'was already'} up: {stack.base_url}")
        typer.echo(f"API documentation: {stack.base_url}/docs")
        if stack.simulator_url is not None:
            typer.echo(f"Simulator of Pinterest: {stack.simulator_url}")
        typer.echo("Addresses and an API key: .pinflow/env. Logs: .pinflow/log. Stop: make down")
        if not started:
            typer.echo("To apply changed settings of .pinflow/settings: make down && make up")


@app.command()
def down() -> None:
    """Stop all processes and keep the data."""
    with _stack() as stack:
        typer.echo(
            "Pinflow is stopped. Its data is kept in .pinflow; to delete it: make clean"
            if stack.down()
            else "Pinflow was not running."
        )


@app.command()
def status() -> None:
    """Show the state of each process, how long it has been running, and whether it is ready."""
    with _stack() as stack:
        states, addresses = stack.states(), stack.addresses()
        uptimes, readiness = stack.uptimes(), stack.readiness()
        for name, state in sorted(states.items()):
            uptime = f"up {timedelta(seconds=uptimes[name])}" if name in uptimes else ""
            columns = f"{name:12} {state:10} {addresses.get(name, ''):16} {uptime:12}"
            typer.echo(f"{columns} {readiness.get(name, '')}".rstrip())
        if not states:
            typer.echo("Pinflow is not running. Start it with: make up")
            sys.exit(1)
        typer.echo(f"gateway: {stack.base_url}")


@app.command()
def clean() -> None:
    """Stop all processes and delete the data. Keeps .pinflow/settings and the files it names."""
    with _stack() as stack:
        kept = ", ".join(stack.clean()) or "nothing"
        typer.echo(
            "Pinflow is stopped. Deleted: its data, keys, tokens and logs. Kept in "
            f".pinflow: {kept}."
        )


@app.command()
def demo(brokers: Brokers = None, pinterest: Pinterest = None) -> None:
    """Start Pinflow, import a campaign of 500 rows, deliver its pins, and show the result.

    Pins are delivered to a simulator of Pinterest, which runs here. If Pinflow was
    not running before, it is stopped at the end.
    """
    with _stack(brokers, pinterest) as stack:
        was_up = bool(stack.states())
        if pinterest is None and not was_up:
            stack.prefer_simulator()
        require_no_real_account(stack.pinterest_mode)
        try:
            stack.up()
            code = run_demo(stack, stays_up=was_up)
        finally:
            if not was_up:
                _report("stopping Pinflow (the data is kept)")
                stack.down()
        sys.exit(code)
