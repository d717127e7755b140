"""The publisher without Kafka on the real Postgres: its handler, direct calls and scheduler."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import orjson
from sqlalchemy import text

from deploy.administration import OperatorRepository
from services.publisher.ids import compute_pin_id
from services.publisher.pins.removals import RemovalReader
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.schedules import ScheduleService
from services.publisher.pins.schemas.pins import PinResponse
from services.publisher.pins.schemas.schedules import ScheduleResponse
from services.publisher.pins.service import PinService
from services.publisher.rows.consumer import RowsHandler
from services.publisher.rows.repository import RowRepository
from services.publisher.rows.service import RowService
from services.publisher.scheduler import Scheduler
from services.publisher.scheduler_repository import DuePinRepository
from shared.access.cache import BoardCache
from shared.access.model import Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import ApiError
from shared.contract.events import RowsSettled
from shared.contract.schedule_ids import derive_pin_id
from shared.contract.topics import TopicName
from shared.kafka.positions.advance import Advance
from shared.kafka.records import Record
from shared.postgres.database import Database
from tests.property.publisher.keyed_store import (
    Content,
    Pin,
    PinKey,
    RowId,
    RowReport,
    SentRow,
)
from tests.property.records import NAMES, build_consumer_record
from tests.support.connections import record_connection
from tests.support.events import parse_event
from tests.support.fakes import MemorySender

BASE_URL = "https://pinflow.example"
PINS = text("""
    select workspace_id, idempotency_key, origin_job_id, origin_row, fingerprint, run_at, state,
        deleted_at, account_id, board_id, title, delivery
    from publisher.pins where workspace_id = any(:ids)
""")
FAILURES = text(
    "select job_id, row_number, error_code from publisher.row_outcomes where job_id = any(:ids)"
)
OUTBOX = text("select event_type, event_id from publisher.outbox where key = any(:ids) order by 2")
DELIVER = text("""
    update publisher.pins
    set state = case state when 'queued' then 'publishing' when 'publishing' then 'confirming'
            else 'published' end,
        published_at = case when state = 'confirming' then now() end,
        pinterest_pin_id = case when state = 'confirming' then cast(pin_id as text) end
    where pin_id = :id and state in ('queued', 'publishing', 'confirming')
""")
REVOKE = text("update access.accounts set revoked_at = now() where id = :id")


async def confirm_always(_made_at: float) -> None:
    """Confirms every connection: no Postgres was replaced."""


class BatchResult(NamedTuple):
    """The results of a batch."""

    reports: dict[RowId, RowReport]
    dead_letters: list[bytes | None]
    events: list[tuple[UUID, str]]
    """The pin and type of each event, in order."""
    outcomes: list[Record]
    """The outcome records that were sent."""


class Publisher:
    def __init__(self, pool: Database) -> None:
        self._pool = pool
        self.store = RowRepository(pool)
        self.access = AccessRepository(pool)
        self.operator = OperatorRepository(pool)

    async def settle(
        self, batch: Sequence[tuple[int, SentRow | bytes]], *, first_offset: int = 0
    ) -> BatchResult:
        """Settles one batch like a process that has just started: its cache of boards is empty.

        The offsets of the batch's records start at `first_offset`.
        """
        sender = MemorySender()
        handler = RowsHandler(RowService(self.store, BoardCache(self.access)), sender, NAMES)
        records = [
            build_consumer_record(
                TopicName.IMPORTS,
                row if isinstance(row, bytes) else row.value,
                partition=partition,
                offset=offset,
            )
            for offset, (partition, row) in enumerate(batch, first_offset)
        ]
        decoded, poison = handler.decode(records)
        dead_letters = [
            dead_letter.record.value
            for dead_letter in [*poison, *await handler.process(decoded, poison, Advance())]
        ]
        outcomes = _sent_records(sender, TopicName.OUTCOMES)
        return BatchResult(
            _parse_reports(outcomes),
            dead_letters,
            _parse_events(_sent_records(sender, TopicName.PIN_EVENTS)),
            outcomes,
        )

    async def publish(self, workspace_id: UUID, document: dict[str, Any]) -> str:
        """Publishes a pin. Returns `created`, `replayed` or the error code."""
        try:
            pin_of_key = await self._pins().publish(
                Principal(workspace_id, uuid4(), frozenset()), document
            )
        except ApiError as error:
            return str(error.code)
        return "created" if pin_of_key.is_new else "replayed"

    async def command(self, name: str, workspace_id: UUID, key: str) -> str:
        """Runs a command. Returns `done` or the error code."""
        pins, schedules = self._pins(), self._schedules()
        commands = {
            "cancel": schedules.cancel,
            "retry": schedules.retry,
            "delete schedule": schedules.delete,
            "delete pin": pins.delete,
        }
        try:
            await commands[name](
                Principal(workspace_id, uuid4(), frozenset()), compute_pin_id(workspace_id, key)
            )
        except ApiError as error:
            return str(error.code)
        return "done"

    async def get_pin(self, workspace_id: UUID, pin_id: UUID) -> dict[str, Any]:
        """Returns the answer of `GET /v1/pins/{id}`."""
        principal = Principal(workspace_id, uuid4(), frozenset())
        row = await self._pins().get(principal, pin_id)
        return PinResponse.from_row(row, BASE_URL).model_dump(mode="json")

    async def get_schedule(self, workspace_id: UUID, schedule_id: UUID) -> dict[str, Any]:
        """Returns the answer of `GET /v1/schedules/{id}`."""
        principal = Principal(workspace_id, uuid4(), frozenset())
        row = await self._schedules().get(principal, derive_pin_id(schedule_id))
        return ScheduleResponse.from_row(row).model_dump(mode="json")

    def _pins(self) -> PinService:
        repository = PinRepository(self._pool, confirm_always)
        return PinService(
            repository,
            BoardCache(self.access),
            self.access,
            RemovalReader(self._pool, is_on=False),
        )

    def _schedules(self) -> ScheduleService:
        repository = PinRepository(self._pool, confirm_always)
        return ScheduleService(repository, BoardCache(self.access), self.access)

    async def publish_due(self) -> None:
        scheduler = Scheduler(DuePinRepository(self._pool), self.access, 100)
        while await scheduler.publish_due():
            pass

    async def revoke(self, account_id: UUID) -> None:
        async with self._pool.transaction() as connection:
            await connection.execute(REVOKE, {"id": account_id})

    async def connect(self, workspace_id: UUID, account_id: UUID) -> None:
        await record_connection(self._pool, workspace_id, account_id)

    async def deliver(self, pin_id: UUID) -> None:
        """Takes the next step of a delivery, as the delivery process does."""
        async with self._pool.transaction() as connection:
            await connection.execute(DELIVER, {"id": pin_id})

    async def pins(self, workspaces: Sequence[UUID]) -> dict[PinKey, Pin]:
        return {
            PinKey(row["workspace_id"], row["idempotency_key"]): Pin(
                RowId(row["origin_job_id"], row["origin_row"]) if row["origin_job_id"] else None,
                row["fingerprint"],
                row["run_at"],
                row["state"],
                Content(row["account_id"], row["board_id"], row["title"]),
                row["deleted_at"] is not None,
                row["delivery"] is not None,
            )
            for row in await self._pool.fetch_all(PINS.bindparams(ids=list(workspaces)))
        }

    async def failures(self, jobs: Sequence[UUID]) -> dict[RowId, str]:
        rows = await self._pool.fetch_all(FAILURES.bindparams(ids=list(jobs)))
        return {RowId(row["job_id"], row["row_number"]): row["error_code"] for row in rows}

    async def outbox(self, workspaces: Sequence[UUID]) -> list[str]:
        """Reads the ids of the outbox's events. An event that was written twice is there twice."""
        rows = await self._pool.fetch_all(
            OUTBOX.bindparams(ids=[str(workspace) for workspace in workspaces])
        )
        return [row["event_id"] for row in rows]


def _sent_records(sender: MemorySender, topic: TopicName) -> list[Record]:
    return [record for partition in sender.topics.get(NAMES[topic], []) for record in partition]


def _parse_reports(records: Sequence[Record]) -> dict[RowId, RowReport]:
    reports: dict[RowId, RowReport] = {}
    for record in records:
        assert b"\\u0000" not in record.value, "the status service could not store it"
        event = parse_event(RowsSettled, record.value)
        numbers = [result.row_number for result in event.results]
        assert numbers == sorted(numbers)
        for result in event.results:
            report = RowReport(
                result.status.value,
                result.pin_id,
                result.schedule_id,
                result.payload_matches,
                result.error_code,
                result.existing_state,
                None if (fields := result.differing_fields) is None else tuple(fields),
                result.updated,
            )
            assert (fields is not None) == (result.payload_matches is False)
            assert reports.setdefault(RowId(event.job_id, result.row_number), report) == report
    return reports


def _parse_events(records: Sequence[Record]) -> list[tuple[UUID, str]]:
    return [
        (UUID(orjson.loads(record.value)["pin_id"]), dict(record.headers)["ce_type"].decode())
        for record in records
    ]
