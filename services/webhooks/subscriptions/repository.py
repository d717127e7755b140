"""Reads and changes webhooks, and reads and requeues their deliveries."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, and_, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.webhooks.delivery.model import DeliveryStatus
from services.webhooks.tables import deliveries, endpoints
from shared.postgres.database import Database
from shared.postgres.row import Row

_LOCK = text("select pg_advisory_xact_lock(hashtextextended('webhooks/' || :workspace_id, 0))")

SCANNED_STATUSES = {DeliveryStatus.PENDING, DeliveryStatus.DELIVERED}
"""Found by a scan from the newest on. An index would cost a write for every delivery, some three.
"""
MAX_SCANNED = 10_000
"""Deliveries that a scan for one page reads."""


class DeliveryPage(NamedTuple):
    rows: list[Row]
    next_before: UUID | None
    """The id that the next page's deliveries are older than. None if there is no next page.

    A short page may have a next one, if its scan ended after MAX_SCANNED deliveries.
    """


class LockedWebhooks:
    """Reads and creates webhooks of a workspace that is locked."""

    def __init__(self, workspace_id: UUID, connection: AsyncConnection) -> None:
        self._workspace_id = workspace_id
        self._connection = connection

    async def find(self, values: Mapping[str, Any]) -> Row | None:
        """Returns a webhook that has these values."""
        equal = (endpoints.c[name] == value for name, value in values.items())
        query = select(endpoints).where(endpoints.c.workspace_id == self._workspace_id, *equal)
        found = (await self._connection.execute(query.limit(1))).mappings().first()
        return None if found is None else dict(found)

    async def count(self) -> int:
        its = endpoints.c.workspace_id == self._workspace_id
        query = select(func.count()).select_from(endpoints).where(its)
        return int((await self._connection.execute(query)).scalar_one())

    async def create(self, values: Mapping[str, Any]) -> Row:
        statement = insert(endpoints).values(
            webhook_id=uuid4(), workspace_id=self._workspace_id, **values
        )
        created = await self._connection.execute(statement.returning(endpoints))
        return dict(created.mappings().one())


class WebhookRepository:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def locked(self, workspace_id: UUID) -> AsyncIterator[LockedWebhooks]:
        """Lets one block at a time create webhooks of a workspace.

        Of two at once, both would count room for one more, or both find no equal webhook.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, {"workspace_id": str(workspace_id)})
            yield LockedWebhooks(workspace_id, connection)

    async def list_webhooks(self, workspace_id: UUID) -> list[Row]:
        """Returns the workspace's webhooks, the newest last."""
        query = select(endpoints).where(endpoints.c.workspace_id == workspace_id)
        return await self._database.fetch_all(
            query.order_by(endpoints.c.created_at, endpoints.c.webhook_id)
        )

    async def get(self, workspace_id: UUID, webhook_id: UUID) -> Row | None:
        return await self._database.fetch_first(
            select(endpoints).where(_is_webhook(workspace_id, webhook_id))
        )

    async def update(
        self, workspace_id: UUID, webhook_id: UUID, changes: Mapping[str, Any]
    ) -> Row | None:
        """Changes a webhook. Enabling or disabling it by hand also forgets its failures."""
        values = {**changes, "updated_at": func.now()}
        if "is_enabled" in changes:
            values |= {
                "disabled_reason": None,
                "failures_in_a_row": 0,
                # 1 after failures: until it delivers, webhooks that have not failed go first
                "failed_attempts": func.least(endpoints.c.failed_attempts, 1),
                "failing_since": None,
            }
        return await self._database.fetch_first(
            update(endpoints)
            .where(_is_webhook(workspace_id, webhook_id))
            .values(values)
            .returning(endpoints)
        )

    async def delete(self, workspace_id: UUID, webhook_id: UUID) -> Row | None:
        """Deletes a webhook. Its deliveries are no longer sent or seen; retention deletes them."""
        return await self._database.fetch_first(
            delete(endpoints)
            .where(_is_webhook(workspace_id, webhook_id))
            .returning(endpoints.c.webhook_id)
        )

    async def list_deliveries(
        self, webhook_id: UUID, *, limit: int, before: UUID | None, status: DeliveryStatus | None
    ) -> DeliveryPage:
        """Returns a page of a webhook's deliveries, the newest first.

        `before`: only deliveries older than this one.
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
        """Returns the delivery at which a scan ends, or None if it ends before."""
        ids = newest.with_only_columns(deliveries.c.delivery_id)
        row = await self._database.fetch_first(ids.offset(MAX_SCANNED - 1).limit(1))
        return None if row is None else row["delivery_id"]

    async def get_delivery(self, webhook_id: UUID, delivery_id: UUID) -> Row | None:
        return await self._database.fetch_first(
            select(deliveries).where(_is_delivery(webhook_id, delivery_id))
        )

    async def requeue(self, webhook_id: UUID, delivery_id: UUID) -> Row | None:
        """Makes a delivery of any status pending and due now, with no failed attempts."""
        values = {
            "status": DeliveryStatus.PENDING.value,
            "tries": 0,
            "next_attempt_at": func.now(),
            "updated_at": func.now(),
        }
        return await self._database.fetch_first(
            update(deliveries)
            .where(_is_delivery(webhook_id, delivery_id))
            .values(values)
            .returning(deliveries)
        )


def _scan(newest: Select[Any], last: UUID | None, status: DeliveryStatus) -> Select[Any]:
    """Returns the deliveries of a status among the newest, down to `last`."""
    if last is not None:
        newest = newest.where(deliveries.c.delivery_id >= last)
    # Behind an offset, Postgres keeps the order of the subquery and reads it no further
    scanned = newest.offset(0).subquery()
    return select(scanned).where(scanned.c.status == status).order_by(scanned.c.delivery_id.desc())


def _is_webhook(workspace_id: UUID, webhook_id: UUID) -> ColumnElement[bool]:
    return and_(endpoints.c.workspace_id == workspace_id, endpoints.c.webhook_id == webhook_id)


def _is_delivery(webhook_id: UUID, delivery_id: UUID) -> ColumnElement[bool]:
    return and_(deliveries.c.webhook_id == webhook_id, deliveries.c.delivery_id == delivery_id)
