"""Counts the pins of an import that wait for their delivery to Pinterest."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import typer

from deploy.cli.client import PinflowClient
from deploy.cli.combined_job import Job
from deploy.cli.counts import choose_verb, number_of
from deploy.cli.pins import PINS
from shared.contract.events import MAX_ROWS, ExistingState
from shared.contract.schedule_ids import derive_pin_id

COMMAND = "pinflow deliveries"
_WHY_DEFERRED = "the command says why. If it shows no pause, see: pinflow pins show ID"
WAITING = frozenset({"queued", "deferred", "publishing"})
"""The statuses of a pin on its way to Pinterest."""
MAX_JOBS = 20
"""The most imports of one file whose pins are counted."""
MAX_UPDATED = 100
"""The most pins that are read because they took the content of an import."""

Pin = dict[str, Any]


class _Found(NamedTuple):
    created: dict[str, Pin]
    """The pins that the imports created, by id."""
    updated: dict[str, Pin]
    """The other pins, which took the imports' content, by id."""
    is_complete: bool


def report_waiting(client: PinflowClient, job: Job, job_ids: Iterable[str]) -> None:
    """Says how many pins of a job wait for their delivery, and how to follow them.

    `job_ids` are the imports of which the job consists. Pins that existed before count if they
    took the job's content.
    """
    updated_ids = list(_find_updated(job["results"]))
    if not (job["created_rows"] or updated_ids):
        return
    try:
        found = _read_pins(client, list(job_ids) if job["created_rows"] else [], updated_ids)
    except typer.Exit:  # the message is on standard error; the import has ended nevertheless
        return
    updated = sum(map(_waits, found.updated.values()))
    waiting = list(filter(_waits, (found.created | found.updated).values()))
    if not waiting:
        return
    at_least = "" if found.is_complete else "At least "
    existed = f", {updated} of which existed and took the new content" if updated else ""
    deferred = sum(pin["status"] == "deferred" for pin in waiting)
    are = choose_verb(deferred, "is", "are")
    paused = f" {deferred} of them {are} deferred: {_WHY_DEFERRED}" if deferred else ""
    typer.echo(
        f"{at_least}{number_of(len(waiting), 'pin')} "
        f"{choose_verb(len(waiting), 'waits', 'wait')} for delivery to Pinterest{existed}. "
        f"Follow it with: {COMMAND}.{paused}"
    )


def _read_pins(client: PinflowClient, job_ids: Sequence[str], updated_ids: Sequence[str]) -> _Found:
    """Reads the pins, each once.

    One list for each status would have a pin twice that changes its status between two of them.
    """
    created: dict[str, Pin] = {}
    for job_id in job_ids[:MAX_JOBS]:
        listing = client.list_items(PINS, {"job_id": job_id}, MAX_ROWS)
        created |= {pin["id"]: pin for pin in listing.items}
    others = [pin_id for pin_id in updated_ids if pin_id not in created]
    updated = {pin_id: client.read(f"{PINS}/{pin_id}") for pin_id in others[:MAX_UPDATED]}
    is_complete = len(job_ids) <= MAX_JOBS and len(others) <= MAX_UPDATED
    return _Found(created, updated, is_complete)


def _find_updated(results: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yields the ids of the pins that took a row's content and were due with it."""
    for row in results:
        if row.get("updated") and row.get("existing_state") == ExistingState.QUEUED:
            # A result has one of both ids
            yield row["pin_id"] or str(derive_pin_id(UUID(row["schedule_id"])))


def _waits(pin: Pin) -> bool:
    return pin["delivery"] == "pinterest" and pin["status"] in WAITING
