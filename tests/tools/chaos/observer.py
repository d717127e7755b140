"""Reads the final state from the public API, then from the database, then from the topics."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
import orjson
import psycopg
from aiokafka import ConsumerRecord

from deploy.administration import NewWorkspace
from services.publisher.ids import compute_generation_id
from shared.contract.cloudevents import EventType
from shared.contract.topics import TopicName
from tests.support.kafka import stream_records
from tests.support.waiting import eventually
from tests.tools.chaos.api_client import parse_counters, parse_result
from tests.tools.chaos.final_state import Announcement, FinalState, Job, Pin
from tests.tools.chaos.history import Counters, Key, Workspace

PAGE = 200
CONCURRENT_REQUESTS = 8
SETTLED_SECONDS = 120.0
READ_SECONDS = 600.0
TIMEOUT_SECONDS = 120.0
COUNTERS = (
    "status, total_rows, created_rows + existing_rows + failed_rows, created_rows, existing_rows, "
    "failed_rows"
)


TIMES = ("published_at", "failed_at", "completed_at")
"""The fields with an event's time. After a restore the same event is sent with a later time."""


class Observer:
    """Reads the final state of a run.

    `kafka` and `database_url` are the servers' own addresses, not those of the proxies.
    """

    def __init__(
        self,
        base_url: str,
        kafka: str,
        topic_prefix: str,
        database_url: str,
        workspaces: list[NewWorkspace],
        stranded: Collection[str] = (),
    ) -> None:
        """`stranded` are request ids that are pending forever because of a restore."""
        self._base_url = base_url
        self._kafka = kafka
        self._topic_prefix = topic_prefix
        self._database_url = database_url
        self._workspaces = workspaces
        self._stranded = list(stranded)

    async def wait_until_settled(self, promised: int, seconds: float = SETTLED_SECONDS) -> None:
        """Waits until nothing changes any more.

        Then `promised` jobs exist and have ended, no pin is scheduled, all events are sent. After
        `seconds` it returns in any case, and the checker reports what is missing.
        """
        with suppress(AssertionError):
            await eventually(lambda: self._is_quiet(promised), seconds=seconds, every=0.5)

    async def read_final_state(self) -> FinalState:
        final_state = FinalState()
        for number, workspace in enumerate(self._workspaces):
            await self._read_jobs(final_state, number, workspace)
        await self._read_database(final_state)
        await self._read_topics(final_state)
        return final_state

    async def _is_quiet(self, promised: int) -> bool:
        query = """
            select (select count(*) from status.jobs where accepted_at is not null),
                (select count(*) from status.jobs
                    where completed_at is null or announced_at is null)
                + (select count(*) from publisher.pins
                    where state = 'scheduled' and run_at < now() + interval '1 day')
                + (select count(*) from publisher.outbox)
                + (select count(*) from ingest.requests
                    where state <> 'committed' and request_id <> all(%s))
        """
        async with await psycopg.AsyncConnection.connect(self._database_url) as connection:
            row = await (await connection.execute(query, (self._stranded,))).fetchone()
        assert row is not None
        return int(row[0]) >= promised and int(row[1]) == 0

    async def _read_jobs(
        self, final_state: FinalState, number: Workspace, workspace: NewWorkspace
    ) -> None:
        async with httpx.AsyncClient(
            base_url=self._base_url,
            headers={"X-API-Key": workspace.api_key},
            timeout=60,
            trust_env=False,
        ) as client:
            listed: list[str] = []
            while page := await _get(client, "/v1/pins/imports", limit=PAGE, offset=len(listed)):
                listed += [job["id"] for job in page]
            slots = asyncio.Semaphore(CONCURRENT_REQUESTS)

            async def read(job_id: str) -> None:
                async with slots:
                    job = await _get(client, f"/v1/pins/imports/{job_id}")
                results = [parse_result(result) for result in job["results"]]
                final_state.jobs[job_id] = Job(
                    number,
                    parse_counters(job),
                    job["completed_at"] is not None,
                    results,
                    datetime.fromisoformat(job["created_at"]),
                    job["parent_id"],
                )

            await asyncio.gather(*(read(job_id) for job_id in listed))

    async def _read_database(self, final_state: FinalState) -> None:
        numbers = {workspace.id: number for number, workspace in enumerate(self._workspaces)}
        async with await psycopg.AsyncConnection.connect(self._database_url) as connection:
            for job_id, *counters in await _fetch_all(
                connection, f"select job_id, {COUNTERS} from status.jobs"
            ):
                final_state.stored_jobs[str(job_id)] = Counters(*counters)
            counts = (
                "select job_id, r->>'status', count(*) from status.results, "
                "json_array_elements(results::json) r group by 1, 2"
            )
            for job_id, status, count in await _fetch_all(connection, counts):
                final_state.stored_results.setdefault(str(job_id), Counter())[status] = count
            pins = (
                "select workspace_id, idempotency_key, pin_id, origin_job_id, origin_row, state, "
                "run_at is not null, generation, deleted_at is not null, title, "
                "coalesce(run_at > now() + interval '1 day', false), released_at is not null, "
                "current_pin_id from publisher.pins"
            )
            for values in await _fetch_all(connection, pins):
                workspace_id, key, *fields = values
                pin = _parse_pin(workspace_id, key, fields)
                final_state.pins[numbers[workspace_id], key].append(pin)

    async def _read_topics(self, final_state: FinalState) -> None:
        numbers = {str(workspace.id): number for number, workspace in enumerate(self._workspaces)}
        async for record in self._records(TopicName.PIN_EVENTS):
            headers, event = dict(record.headers), orjson.loads(record.value or b"")
            counts = (
                final_state.published
                if headers["ce_type"].decode() == EventType.PIN_PUBLISHED
                else final_state.scheduled
            )
            counts[event["pin_id"]] += 1
            key = numbers[event["workspace_id"]], event["idempotency_key"]
            final_state.announce(headers["ce_id"].decode(), _announcement(event, key))
        async for record in self._records(TopicName.JOB_EVENTS):
            event = orjson.loads(record.value or b"")
            final_state.job_events[event["job_id"]].append(parse_counters(event))
            final_state.announce(dict(record.headers)["ce_id"].decode(), _announcement(event))
        async for record in self._records(TopicName.DEAD_LETTERS):
            final_state.dead_letters[dict(record.headers)["pinflow-error-code"].decode()] += 1

    def _records(self, name: TopicName) -> AsyncIterator["ConsumerRecord[bytes, bytes]"]:
        return stream_records(self._kafka, self._topic_prefix, name, seconds=READ_SECONDS)


def _parse_pin(workspace_id: UUID, key: str, fields: list[Any]) -> Pin:
    pin_id, job_id, row, state, scheduled, generation, deleted, title, is_far, *release = fields
    released, current = release
    # Under the first pin id, the column is the highest generation of the key
    is_first = pin_id == compute_generation_id(workspace_id, key, 0)
    return Pin(
        str(pin_id),
        str(job_id) if job_id else None,
        row,
        state,
        scheduled,
        generation=0 if is_first else generation or 0,
        deleted=deleted,
        title=title,
        is_far=is_far,
        released=released,
        current=str(current) if current else None,
        highest=(generation or 0) if is_first else 0,
    )


async def _get(client: httpx.AsyncClient, path: str, **query: int) -> Any:
    """Returns the answer to a GET. Like any client it retries after a 503."""

    async def try_once() -> httpx.Response | None:
        answer = await client.get(path, params=query)
        return None if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE else answer

    answer = await eventually(try_once, seconds=TIMEOUT_SECONDS, every=1.0)
    assert answer.status_code == HTTPStatus.OK, answer.text
    return answer.json()


async def _fetch_all(
    connection: "psycopg.AsyncConnection[tuple[Any, ...]]", query: str
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode())).fetchall()


def _announcement(event: dict[str, Any], key: Key | None = None) -> Announcement:
    without_times = {name: value for name, value in event.items() if name not in TIMES}
    text = orjson.dumps(without_times, option=orjson.OPT_SORT_KEYS)
    content = blake2b(text, digest_size=16).digest()
    return Announcement(
        content, key, (event.get("job_id"), event.get("row_number")) if key else (None, None)
    )
