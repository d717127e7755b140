"""Defines the options that several commands have."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from deploy.cli.times import parse_since
from shared.contract.fault_messages import EXAMPLE_UUID

DEFAULT_URL = "http://127.0.0.1:8080"
MAX_LISTED = 100_000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
BaseUrl = Annotated[
    str, typer.Option(envvar="PINFLOW_BASE_URL", help="The address of Pinflow's gateway.")
]
ApiKey = Annotated[
    str,
    typer.Option(
        envvar="PINFLOW_API_KEY", help="An API key of your workspace.", show_default=False
    ),
]
MaxRetrySeconds = Annotated[
    float,
    typer.Option(
        "--patience",
        min=0,
        metavar="SECONDS",
        help="Keep trying for this long while Pinflow is busy (429), is unavailable (503) or does "
        "not answer.",
    ),
]
Limit = Annotated[
    int, typer.Option(min=1, max=MAX_LISTED, help="Show at most this many, page by page.")
]
JobId = Annotated[
    str, typer.Argument(help="The import's id, as printed by pinflow import and imports list.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def parse_id(text: str) -> UUID:
    """Parses the id in an argument or option."""
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"must be an id, for example {EXAMPLE_UUID}") from None


def _parse_time(text: str) -> str:
    try:
        time = parse_since(text, datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from None
    return time.isoformat()


def time_option(name: str, description: str) -> object:
    """Builds an option for a time, or for a duration before now. Its value is ISO 8601."""
    return typer.Option(
        name,
        metavar="WHEN",
        parser=_parse_time,
        help=f"{description} (2026-03-06T10:00Z), or a duration ago (90s, 30m, 12h, 7d).",
    )


CreatedSince = Annotated[
    str | None, time_option("--since", "Only those created at this time or later")
]
CreatedUntil = Annotated[str | None, time_option("--until", "Only those created before this time")]
