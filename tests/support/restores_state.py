"""Reads the state of a workspace's imports, and compares it before and after a restore."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
import orjson
import psycopg
from psycopg.rows import dict_row

from deploy.administration import NewWorkspace
from shared.contract.topics import TopicName
from tests.support.kafka import read_records

JOB_TIMES = {"started_at", "completed_at", "updated_at"}
PIN_TIMES = {"published_at", "updated_at", "failed_at"}
"""Times that a replay changes. A job and a pin keep created_at."""
MAX_DIFFERENCES_SHOWN = 10


@dataclass
class WorkspaceState:
    """A workspace's jobs by id as the API returns them, and its pins by id as Postgres has them."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pins: dict[str, dict[str, Any]] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)
    """The HTTP status of each job that the API did not return, by job id."""


@dataclass
class WorkspaceEvents:
    """All events of one workspace. The sets contain equal repetitions once."""

    origins: dict[str, set[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(set))
    """Key, job, row, account and board of each event of a pin, by pin."""
    events: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Pins by event id."""
    outcomes: dict[tuple[str, int], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Results by job and row."""
    completions: dict[str, set[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(set))
    """Statuses and counters by job."""
    count: int = 0
    """Number of pin events, with repetitions."""


def read_workspace_state(
    client: httpx.Client,
    database_url: str,
    workspace: NewWorkspace,
    jobs: Iterable[str],
) -> WorkspaceState:
    """Reads the jobs from the API and all pins of the workspace from Postgres."""
    state = WorkspaceState()
    for job_id in jobs:
        answer = client.get(f"/v1/pins/imports/{job_id}")
        if answer.status_code == HTTPStatus.OK:
            state.jobs[job_id] = _without(answer.json(), JOB_TIMES)
        else:
            state.unanswered[job_id] = answer.status_code
    query = "select * from publisher.pins where workspace_id = %s"
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        for pin in connection.execute(query, (workspace.id,)):
            state.pins[str(pin["pin_id"])] = _without(pin, PIN_TIMES)
    return state


def find_differences(
    before: WorkspaceState, after: WorkspaceState, since: Collection[str] = ()
) -> list[str]:
    """Compares jobs, rows and pins, and returns a line for each difference.

    `since` are the ids of jobs that were accepted after `before`. Their pins may be new.
    """
    findings = [f"job {job_id}: HTTP {status}" for job_id, status in after.unanswered.items()]
    for job_id, job in before.jobs.items():
        if job_id not in after.unanswered:
            findings += _compare(f"job {job_id}", job, after.jobs.get(job_id, {}))
    for pin_id in before.pins.keys() | after.pins.keys():
        pin, now = before.pins.get(pin_id, {}), after.pins.get(pin_id, {})
        if pin or str(now["origin_job_id"]) not in since:
            findings += _compare(f"pin {pin_id}", pin, now)
    return findings


def read_workspace_events(
    kafka: str, topic_prefix: str, workspace: NewWorkspace
) -> WorkspaceEvents:
    """Reads the workspace's pin events, outcomes and job events from Kafka."""
    return asyncio.run(_read(kafka, topic_prefix, str(workspace.id)))


def find_duplicates(events: WorkspaceEvents, state: WorkspaceState) -> list[str]:
    """Returns a line for each duplicate or contradiction.

    Examples: a key that was created twice, a row or job with two outcomes, an event id of two pins,
    and an event of a pin that Postgres does not have.
    """
    findings = []
    for pin_id, origins in events.origins.items():
        if len(origins) > 1:
            findings.append(f"pin {pin_id} has events of several rows: {sorted(map(str, origins))}")
        if pin_id not in state.pins:
            findings.append(f"pin {pin_id} has an event and is not in Postgres")
    for event_id, pins in events.events.items():
        if len(pins) > 1:
            findings.append(f"event {event_id} belongs to several pins: {sorted(pins)}")
    for row, outcomes in events.outcomes.items():
        if len(outcomes) > 1:
            findings.append(f"row {row} has several outcomes: {sorted(outcomes)}")
    for job_id, completions in events.completions.items():
        if len(completions) > 1:
            findings.append(f"job {job_id} ended in several ways: {sorted(map(str, completions))}")
    return findings + _find_duplicate_creations(state)


def _find_duplicate_creations(state: WorkspaceState) -> list[str]:
    """Finds keys that several rows created, and pins whose origin is none of these rows.

    A key can't be created twice legitimately, because no test releases a key.
    """
    created = defaultdict(list)
    for job_id, job in state.jobs.items():
        for result in job["results"]:
            if result["status"] == "created":
                created[result["idempotency_key"]].append((job_id, result["row_number"]))
    findings = [
        f"key {key} was created by {rows}" for key, rows in created.items() if len(rows) > 1
    ]
    for pin_id, pin in state.pins.items():
        origin = (str(pin["origin_job_id"]), pin["origin_row"])
        rows = created.get(pin["idempotency_key"], [])
        if rows and origin not in rows:
            findings.append(f"pin {pin_id} has the origin {origin}, but its results name {rows}")
    return findings


async def _read(kafka: str, topic_prefix: str, workspace_id: str) -> WorkspaceEvents:
    events = WorkspaceEvents()
    for record in await read_records(kafka, topic_prefix, TopicName.PIN_EVENTS):
        event = orjson.loads(record.value or b"")
        if event["workspace_id"] == workspace_id:
            events.count += 1
            events.events[dict(record.headers)["ce_id"].decode()].add(event["pin_id"])
            fields = ("idempotency_key", "job_id", "row_number", "account_id", "board_id")
            events.origins[event["pin_id"]].add(tuple(event.get(name) for name in fields))
    for record in await read_records(kafka, topic_prefix, TopicName.OUTCOMES):
        event = orjson.loads(record.value or b"")
        if event["workspace_id"] == workspace_id:
            for result in event["results"]:
                written = orjson.dumps(result, option=orjson.OPT_SORT_KEYS)
                events.outcomes[event["job_id"], result["row_number"]].add(written)
    for record in await read_records(kafka, topic_prefix, TopicName.JOB_EVENTS):
        event = orjson.loads(record.value or b"")
        if event["workspace_id"] == workspace_id:
            fields = ("status", "total_rows", "created_rows", "existing_rows", "failed_rows")
            events.completions[event["job_id"]].add(tuple(event[name] for name in fields))
    return events


def _compare(name: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    if not before or not after:
        return [] if before == after else [f"{name} is {'lost' if before else 'new'}"]
    findings = []
    for key, value in before.items():
        if key == "results":
            for row, other in zip(value, after[key], strict=False):
                if row != other:
                    findings.append(f"{name} row {row['row_number']}: {row} became {other}")
            if len(value) != len(after[key]):
                findings.append(f"{name} has {len(after[key])} results instead of {len(value)}")
        elif after[key] != value:
            findings.append(f"{name} {key}: {value!r} became {after[key]!r}")
    return findings


def _without(document: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}
