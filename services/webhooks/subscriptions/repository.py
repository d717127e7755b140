"""All SQL with which HTTP reads and changes webhooks, and reads what was delivered to them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import and_, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.webhooks.delivery.model import DeliveryStatus
from services.webhooks.tables import deliveries, endpoints
from shared.contract.errors import ErrorCode, RequestRefused, not_found
from shared.postgres.database import Database
from shared.postgres.row import Row

# One at a time for a workspace: two that count at once would both find room, two that look for the
# same both find none
_ALONE = text("select pg_advisory_xact_lock(hashtextextended('webhooks/' || :workspace_id, 0))")

WALKED = {DeliveryStatus.PENDING, DeliveryStatus.DELIVERED}
"""Found by looking at all, the newest first: every delivery would pay for an index of its own, some
three times.
"""
LOOK_AT_MOST = 10_000
"""For one page of those."""


class WebhookRepository:
    """Raises DatabaseUnavailable when Postgres is away; RequestRefused (404) for what another
    workspace has, as for what nobody has.
    """

    def __init__(self, database: Database, most: int) -> None:
        """`most`: webhooks of one workspace."""
        self._database = database
        self._most = most

    async def create(self, workspace_id: UUID, wanted: Mapping[str, Any]) -> tuple[Row, bool]:
        """The webhook, and whether this call made it: one that is the same in everything is there
        already. Raises RequestRefused (409).
        """
        mine = endpoints.c.workspace_id == workspace_id
        same = and_(mine, *(endpoints.c[name] == value for name, value in wanted.items()))
        async with self._database.transaction() as connection:
            await connection.execute(_ALONE, {"workspace_id": str(workspace_id)})
            if (
                there := (await connection.execute(select(endpoints).where(same).limit(1)))
                .mappings()
                .first()
            ) is not None:
                return dict(there), False
            await self._require_room(connection, workspace_id)
            statement = (
                insert(endpoints)
                .values(webhook_id=uuid4(), workspace_id=workspace_id, **wanted)
                .returning(endpoints)
            )
            return dict((await connection.execute(statement)).mappings().one()), True

    async def _require_room(self, connection: AsyncConnection, workspace_id: UUID) -> None:
        query = (
            select(func.count())
            .select_from(endpoints)
            .where(endpoints.c.workspace_id == workspace_id)
        )
        current = (await connection.execute(query)).scalar_one()
        if current >= self._most:
            message = f"A workspace has at most {self._most} webhooks; delete one first."
            raise RequestRefused(
                ErrorCode.TOO_MANY_WEBHOOKS,
                message,
                HTTPStatus.CONFLICT,
                limit=self._most,
                current=current,
            )

    async def list_webhooks(self, workspace_id: UUID) -> list[Row]:
        """All of them, in the order in which they were made."""
        query = select(endpoints).where(endpoints.c.workspace_id == workspace_id)
        return await self._database.all(
            query.order_by(endpoints.c.created_at, endpoints.c.webhook_id)
        )

    async def webhook(self, workspace_id: UUID, webhook_id: UUID) -> Row:
        return _found(
            await self._database.first(select(endpoints).where(_one(workspace_id, webhook_id))),
            "Webhook",
        )

    async def change(self, workspace_id: UUID, webhook_id: UUID, changes: Mapping[str, Any]) -> Row:
        values = {**changes, "updated_at": func.now()}
        if changes.get("is_enabled") is not None:
            # Switched on, it begins anew, but behind those that have not failed; switched off by
            # hand, nobody else is the reason
            failed_attempts = func.least(endpoints.c.failed_attempts, 1)
            values |= {
                "disabled_reason": None,
                "failures_in_a_row": 0,
                "failed_attempts": failed_attempts,
                "failing_since": None,
            }
        statement = (
            update(endpoints)
            .where(_one(workspace_id, webhook_id))
            .values(values)
            .returning(endpoints)
        )
        return _found(await self._database.first(statement), "Webhook")

    async def delete(self, workspace_id: UUID, webhook_id: UUID) -> None:
        """Its deliveries are nobody's then: no longer sent, no longer seen, and soon taken away."""
        statement = (
            delete(endpoints)
            .where(_one(workspace_id, webhook_id))
            .returning(endpoints.c.webhook_id)
        )
        _found(await self._database.first(statement), "Webhook")

    async def list_deliveries(
        self,
        workspace_id: UUID,
        webhook_id: UUID,
        *,
        limit: int,
        before: UUID | None,
        status: DeliveryStatus | None,
    ) -> tuple[list[Row], UUID | None]:
        """The newest first; `before`: those that are older than this one. And before which to go
        on, if there may be more: a page can be short and not the last, when LOOK_AT_MOST were
        looked at.
        """
        await self.webhook(workspace_id, webhook_id)
        conditions = [deliveries.c.webhook_id == webhook_id]
        if before is not None:
            conditions.append(deliveries.c.delivery_id < before)
        newest = select(deliveries).where(*conditions).order_by(deliveries.c.delivery_id.desc())
        last: Row | None = None
        if status in WALKED:
            last = await self._database.first(
                newest.with_only_columns(deliveries.c.delivery_id).offset(LOOK_AT_MOST - 1).limit(1)
            )
            seen = (
                (
                    newest
                    if last is None
                    else newest.where(deliveries.c.delivery_id >= last["delivery_id"])
                )
                .offset(0)
                .subquery()
            )
            newest = (
                select(seen).where(seen.c.status == status).order_by(seen.c.delivery_id.desc())
            )  # behind offset: looked at in that order
        elif status is not None:
            newest = newest.where(deliveries.c.status == status)
        rows = await self._database.all(newest.limit(limit))
        if len(rows) == limit:
            last = rows[-1]
        return rows, None if last is None else last["delivery_id"]

    async def delivery(self, workspace_id: UUID, webhook_id: UUID, delivery_id: UUID) -> Row:
        await self.webhook(workspace_id, webhook_id)
        return _found(
            await self._database.first(
                select(deliveries).where(_delivery(webhook_id, delivery_id))
            ),
            "Delivery",
        )

    async def resend(self, workspace_id: UUID, webhook_id: UUID, delivery_id: UUID) -> Row:
        """Due now, whatever became of it, with as many attempts as a new one.

        Raises RequestRefused (409) for a disabled webhook's.
        """
        webhook = await self.webhook(workspace_id, webhook_id)
        if not webhook["is_enabled"]:
            message = "The webhook is disabled: nothing is sent to it. Enable it first."
            raise RequestRefused(ErrorCode.WEBHOOK_DISABLED, message, HTTPStatus.CONFLICT)
        values = {
            "status": DeliveryStatus.PENDING.value,
            "tries": 0,
            "next_attempt_at": func.now(),
            "updated_at": func.now(),
        }
        statement = (
            update(deliveries)
            .where(_delivery(webhook_id, delivery_id))
            .values(values)
            .returning(deliveries)
        )
        return _found(await self._database.first(statement), "Delivery")


def _one(workspace_id: UUID, webhook_id: UUID) -> Any:
    return and_(endpoints.c.workspace_id == workspace_id, endpoints.c.webhook_id == webhook_id)


def _delivery(webhook_id: UUID, delivery_id: UUID) -> Any:
    return and_(deliveries.c.webhook_id == webhook_id, deliveries.c.delivery_id == delivery_id)


def _found(row: Row | None, what: str) -> Row:
    if row is None:
        raise not_found(what)
    return row
