"""Says how to list an import's pins that wait for Pinterest or are there."""

from typing import Any

import typer

from deploy.cli.client import MAX_PAGE_ITEMS, PinflowClient
from deploy.cli.pins import PINS


def name_pins(client: PinflowClient, job: dict[str, Any]) -> None:
    """Names the command that lists the import's pins, if one of them is delivered to Pinterest.

    Looks at one page of pins.
    """
    if not job["created_rows"]:
        return
    try:
        listing = client.list_items(PINS, {"job_id": job["id"]}, MAX_PAGE_ITEMS)
    except typer.Exit:  # the message is on standard error; the import is shown nevertheless
        return
    if any(pin["delivery"] == "pinterest" for pin in listing.items):
        typer.echo(
            "Pins of this import go to Pinterest. To see what became of them: pinflow pins list "
            f"--import {job['id']}"
        )
