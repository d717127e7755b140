"""Asks before an import publishes rows whose time has passed."""

from zoneinfo import ZoneInfo

import typer

from deploy.cli.combined_job import Job
from deploy.cli.counts import choose_verb, part_of
from deploy.cli.exit_codes import fail
from deploy.cli.import_options import ImportFile, PastChoice
from deploy.cli.job_tables import format_rows
from deploy.cli.past_rows import PastRows
from deploy.cli.questions import can_ask, choose
from deploy.cli.tables import format_time


def decide_past_rows(read: ImportFile, past: PastRows | None) -> PastChoice | None:
    """Asks before rows are published whose time has passed. None: Pinflow's default."""
    if past is None:
        return None
    text = (
        f"{part_of(len(past.numbers), len(read.source.rows), 'row')} "
        f"{choose_verb(len(past.numbers), 'has', 'have')} a run_at that has passed: "
        f"{format_rows(past.numbers)}. The oldest is "
        f"{_format_oldest(past, read.zone)}. "
    )
    if not can_ask():
        typer.echo(
            f"Warning: {text}They are published at once, unless they exist already. With --past "
            "fail they fail instead.",
            err=True,
        )
        return None
    typer.echo(
        f"{text}Without a run_at in the future, a row is published at once, unless it exists "
        "already.\n  y  publish these rows now\n  n  import nothing\n  o  import only the others: "
        "these rows fail (as with --past fail)",
        err=True,
    )
    answer = choose("Publish them now?", ("y", "n", "o"), no="n")
    if answer == "n":
        fail("Nothing was imported.")
    return PastChoice.FAIL if answer == "o" else PastChoice.PUBLISH


def leave_out_past_warning(job: Job) -> Job:
    """Returns the job without the warning that the command gave before the import."""
    warnings = job["warnings"] or ()
    return {**job, "warnings": [each for each in warnings if each["code"] != "past_run_at"]}


def _format_oldest(past: PastRows, zone: ZoneInfo | None) -> object:
    """Formats the oldest time in the zone of the file's times, or in UTC."""
    if zone is None:
        return format_time(past.oldest)
    return f"{past.oldest.astimezone(zone):%Y-%m-%d %H:%M:%S} ({zone.key})"
