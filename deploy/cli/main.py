"""Builds the console script `pinflow` from its commands."""

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from deploy.cli import (
    administration,
    connections,
    deliveries,
    imports,
    pin_changes,
    pins,
    steering,
    template,
)
from deploy.cli.dead_letters import commands as dead_letters
from deploy.cli.environment import load_environment
from deploy.cli.recovery import commands as recovery


class PlainGroup(TyperGroup):
    """The root of the commands. Its errors have no words of the libraries that find them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # of pydantic
            raise


app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(
        "Import pins and operate Pinflow. In a checkout whose local stack is running (make up), "
        "the commands read its address and API key from .pinflow/env. Elsewhere, set the "
        "variables PINFLOW_*."
    ),
)
app.add_typer(imports.commands)
imports.imports.add_typer(steering.commands)
app.add_typer(imports.imports, name="imports")
app.add_typer(template.commands)
pins.pins.add_typer(pin_changes.commands)
app.add_typer(pins.pins, name="pins")
app.add_typer(pins.schedules, name="schedules")
app.add_typer(deliveries.commands, name="deliveries")
app.add_typer(administration.commands)
administration.accounts.add_typer(connections.commands)
for group in ("topics", "workspaces", "keys", "accounts", "boards"):
    app.add_typer(getattr(administration, group), name=group)
app.add_typer(dead_letters.letters, name="dead-letters")
app.add_typer(recovery.commands)


def main() -> None:
    load_environment(Path.cwd())  # before typer reads the variables of options
    app()
