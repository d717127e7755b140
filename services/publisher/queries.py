"""All SQL with which HTTP reads pins and schedules."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select

from services.publisher.models import pins
from services.publisher.service import PinState
from shared.database import Database, Row

IS_DUE = and_(pins.c.state == PinState.SCHEDULED, pins.c.run_at <= func.now())
IS_PIN = and_(pins.c.deleted_at.is_(None), or_(pins.c.state.in_([PinState.PUBLISHED, PinState.FAILED]), IS_DUE))
IS_SCHEDULE = and_(pins.c.deleted_at.is_(None), pins.c.run_at.is_not(None))


class PinQueries:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pin(self, workspace_id: UUID, pin_id: UUID) -> Row | None:
        """A pin that is published, due or failed; a schedule that is not due is none yet."""
        return await self._first(and_(pins.c.workspace_id == workspace_id, pins.c.pin_id == pin_id, IS_PIN))

    async def any(self, workspace_id: UUID, pin_id: UUID) -> Row | None:
        """Whatever stands under the id, deleted and scheduled ones too."""
        return await self._first(and_(pins.c.workspace_id == workspace_id, pins.c.pin_id == pin_id))

    async def schedule(self, workspace_id: UUID, pin_id: UUID) -> Row | None:
        return await self._first(and_(pins.c.workspace_id == workspace_id, pins.c.pin_id == pin_id, IS_SCHEDULE))

    async def list_pins(
        self, workspace_id: UUID, *, limit: int, offset: int, conditions: Sequence[ColumnElement[bool]]
    ) -> tuple[Sequence[Row], int]:
        """A page, newest first, and how many there are in all."""
        where = and_(pins.c.workspace_id == workspace_id, IS_PIN, *conditions)
        page = select(pins, IS_DUE.label("is_due")).where(where).order_by(pins.c.created_at.desc(), pins.c.pin_id)
        async with self._database.transaction() as connection:
            total = (await connection.execute(select(func.count()).select_from(pins).where(where))).scalar_one()
            rows = (await connection.execute(page.limit(limit).offset(offset))).mappings().all()
        return [dict(row) for row in rows], total

    async def _first(self, where: ColumnElement[bool]) -> Row | None:
        return await self._database.first(select(pins, IS_DUE.label("is_due")).where(where))
