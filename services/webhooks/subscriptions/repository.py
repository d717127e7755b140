"""Stores webhooks, and reads and requeues their deliveries."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, and_, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.webhooks.delivery.model import DeliveryStatus
from services.webhooks.tables import deliveries, webhooks
from shared.postgres.database import Database
from shared.postgres.row import Row

_LOCK = text("select pg_advisory_xact_lock(hashtextextended('webhooks/' || :workspace_id, 0))")

SCANNED_STATUSES = {DeliveryStatus.PENDING, DeliveryStatus.DELIVERED}
"""Statuses that a list finds by scanning from the newest delivery.

An index on them would cost every delivery up to three more writes.
"""
MAX_SCANNED_DELIVERIES = 10_000
"""Maximum deliveries that a scan reads for one page."""


class DeliveryPage(NamedTuple):
    rows: list[Row]
    next_cursor: UUID | None
    """The next page lists deliveries with smaller ids. None if there is no next page.

    A short page may have a next page, if its scan stopped after MAX_SCANNED_DELIVERIES.
    """


class LockedWebhooks:
    """Reads and creates webhooks of a workspace while its lock is held."""

    def __init__(self, workspace_id: UUID, connection: AsyncConnection) -> None:
        self._workspace_id = workspace_id
        self._connection = connection

    async def find(self, values: Mapping[str, Any]) -> Row | None:
        """Returns a webhook with these column values, if there is one."""
        equal = (webhooks.c[name] == value for name, value in values.items())
        query = select(webhooks).where(webhooks.c.workspace_id == self._workspace_id, *equal)
        row = (await self._connection.execute(query.limit(1))).mappings().first()
        return None if row is None else dict(row)

    async def count(self) -> int:
        in_workspace = webhooks.c.workspace_id == self._workspace_id
        query = select(func.count()).select_from(webhooks).where(in_workspace)
        return int((await self._connection.execute(query)).scalar_one())

    async def create(self, values: Mapping[str, Any]) -> Row:
        statement = insert(webhooks).values(
            webhook_id=uuid4(), workspace_id=self._workspace_id, **values
        )
        created = await self._connection.execute(statement.returning(webhooks))
        return dict(created.mappings().one())


class WebhookRepository:
    """Stores webhooks. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lock(self, workspace_id: UUID) -> AsyncIterator[LockedWebhooks]:
        """Holds the workspace's lock until the block ends.

        Without the lock, two concurrent calls could both pass the limit, or both create an equal
        webhook.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, {"workspace_id": str(workspace_id)})
            yield LockedWebhooks(workspace_id, connection)

    async def list_webhooks(self, workspace_id: UUID) -> list[Row]:
        """Returns the workspace's webhooks, oldest first."""
        query = select(webhooks).where(webhooks.c.workspace_id == workspace_id)
        return await self._database.fetch_all(
            query.order_by(webhooks.c.created_at, webhooks.c.webhook_id)
        )

    async def get(self, workspace_id: UUID, webhook_id: UUID) -> Row | None:
        return await self._database.fetch_first(
            select(webhooks).where(_matches_webhook(workspace_id, webhook_id))
        )

    async def update(
        self, workspace_id: UUID, webhook_id: UUID, changes: Mapping[str, Any]
    ) -> Row | None:
        """Changes a webhook. If `changes` contain `is_enabled`, also resets its failures."""
        values = {**changes, "updated_at": func.now()}
        if "is_enabled" in changes:
            values |= {
                "disabled_reason": None,
                "failures_in_a_row": 0,
                # not 0 if it has failed: until an attempt succeeds, others go first
                "failed_attempts": func.least(webhooks.c.failed_attempts, 1),
                "failing_since": None,
            }
        return await self._database.fetch_first(
            update(webhooks)
            .where(_matches_webhook(workspace_id, webhook_id))
            .values(values)
            .returning(webhooks)
        )

    async def delete(self, workspace_id: UUID, webhook_id: UUID) -> Row | None:
        """Deletes a webhook. Its deliveries are no longer sent or shown; retention deletes them."""
        return await self._database.fetch_first(
            delete(webhooks)
            .where(_matches_webhook(workspace_id, webhook_id))
            .returning(webhooks.c.webhook_id)
        )

    async def list_deliveries(
        self, webhook_id: UUID, *, limit: int, before: UUID | None, status: DeliveryStatus | None
    ) -> DeliveryPage:
        """Returns a page of a webhook's deliveries, newest first.

        `before`: lists only deliveries older than this one.
        """
        newest = select(deliveries).where(deliveries.c.webhook_id == webhook_id)
        if before is not None:
            newest = newest.where(deliveries.c.delivery_id < before)
        newest = newest.order_by(deliveries.c.delivery_id.desc())
        last: UUID | None = None
        if status in SCANNED_STATUSES:
            last = await self._last_scanned(newest)
            newest = _scan(newest, last, status)
        elif status is not None:
            newest = newest.where(deliveries.c.status == status)
        rows = await self._database.fetch_all(newest.limit(limit))
        return DeliveryPage(rows, rows[-1]["delivery_id"] if len(rows) == limit else last)

    async def _last_scanned(self, newest: Select[Any]) -> UUID | None:
        """Returns the id of the last delivery that a scan may read.

        Returns None if there are fewer than MAX_SCANNED_DELIVERIES.
        """
        ids = newest.with_only_columns(deliveries.c.delivery_id)
        row = await self._database.fetch_first(ids.offset(MAX_SCANNED_DELIVERIES - 1).limit(1))
        return None if row is None else row["delivery_id"]

    async def get_delivery(self, webhook_id: UUID, delivery_id: UUID) -> Row | None:
        return await self._database.fetch_first(
            select(deliveries).where(_matches_delivery(webhook_id, delivery_id))
        )

    async def requeue(self, webhook_id: UUID, delivery_id: UUID) -> Row | None:
        """Makes a delivery of any status pending and due now, and resets its tries."""
        values = {
            "status": DeliveryStatus.PENDING.value,
            "tries": 0,
            "next_attempt_at": func.now(),
            "updated_at": func.now(),
        }
        return await self._database.fetch_first(
            update(deliveries)
            .where(_matches_delivery(webhook_id, delivery_id))
            .values(values)
            .returning(deliveries)
        )


def _scan(newest: Select[Any], last: UUID | None, status: DeliveryStatus) -> Select[Any]:
    """Builds the query for deliveries with a status, from the newest down to `last`."""
    if last is not None:
        newest = newest.where(deliveries.c.delivery_id >= last)
    # The offset makes Postgres keep the subquery's order and stop at the limit
    scanned = newest.offset(0).subquery()
    return select(scanned).where(scanned.c.status == status).order_by(scanned.c.delivery_id.desc())


def _matches_webhook(workspace_id: UUID, webhook_id: UUID) -> ColumnElement[bool]:
    return and_(webhooks.c.workspace_id == workspace_id, webhooks.c.webhook_id == webhook_id)


def _matches_delivery(webhook_id: UUID, delivery_id: UUID) -> ColumnElement[bool]:
    return and_(deliveries.c.webhook_id == webhook_id, deliveries.c.delivery_id == delivery_id)
