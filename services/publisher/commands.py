"""All SQL with which HTTP changes pins and schedules: each a transaction, its events in the outbox with it."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from services.publisher.announcements import pin_published
from services.publisher.models import outbox, pins
from services.publisher.service import PinState
from shared.database import Database, Row
from shared.events import PinContent


class PinCommands:
    """Raises DatabaseUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish_directly(self, pin_id: UUID, workspace_id: UUID, content: PinContent, fingerprint: UUID) -> tuple[Row, bool]:
        """Publish one pin that no import brought. Returns what stands under its key, and whether this call made it.

        The event stands in the outbox with it. A call that loses the race for the key finds the winner.
        """
        values = {name: value for name, value in content.model_dump().items() if name != "run_at"}
        now = func.now()
        statement = (
            insert(pins)
            .values(
                **values,
                pin_id=pin_id,
                workspace_id=workspace_id,
                fingerprint=fingerprint,
                state=PinState.PUBLISHED,
                created_at=now,
                published_at=now,
            )
            .on_conflict_do_nothing(index_elements=[pins.c.pin_id])
            .returning(pins)
        )
        async with self._database.transaction() as connection:
            made = (await connection.execute(statement)).mappings().first()
            if made is not None:
                await connection.execute(insert(outbox).values(pin_published(dict(made))._asdict()))
                return dict(made), True
            # A statement of its own sees the row that the conflict was with
            stands = (await connection.execute(select(pins).where(pins.c.pin_id == pin_id))).mappings().one()
            return dict(stands), False
