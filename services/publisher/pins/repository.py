"""All SQL with which HTTP reads one pin or schedule; lists.py has that of many."""

from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select

from services.publisher.model import PinState
from services.publisher.tables import pins
from shared.postgres.database import Database
from shared.postgres.row import Row

IS_DUE = and_(pins.c.state == PinState.SCHEDULED, pins.c.run_at <= func.now())
IS_PIN = and_(
    pins.c.deleted_at.is_(None),
    or_(pins.c.state.in_([PinState.PUBLISHED, PinState.FAILED]), IS_DUE),
)
IS_SCHEDULE = and_(pins.c.deleted_at.is_(None), pins.c.run_at.is_not(None))


class PinQueries:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pin(self, workspace_id: UUID, pin_id: UUID) -> Row | None:
        """A pin that is published, due or failed; a schedule that is not due is none yet."""
        return await self._first(
            and_(pins.c.workspace_id == workspace_id, pins.c.pin_id == pin_id, IS_PIN)
        )

    async def any(self, workspace_id: UUID, pin_id: UUID) -> Row | None:
        """Whatever stands under the id, deleted and scheduled ones too."""
        return await self._first(and_(pins.c.workspace_id == workspace_id, pins.c.pin_id == pin_id))

    async def schedule(self, workspace_id: UUID, pin_id: UUID) -> Row | None:
        return await self._first(
            and_(pins.c.workspace_id == workspace_id, pins.c.pin_id == pin_id, IS_SCHEDULE)
        )

    async def _first(self, where: ColumnElement[bool]) -> Row | None:
        return await self._database.first(select(pins, IS_DUE.label("is_due")).where(where))
