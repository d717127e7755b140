"""Refuses a request while a restored Postgres may lack pins that it needs.

outcome_history.py explains how lost pins come back.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

from shared.contract.errors import RETRY_AFTER, ApiError, ErrorCode, PositionBehind
from shared.postgres.database import Database, DriverConnection

RequireCurrentDatabase: TypeAlias = Callable[[float], Awaitable[None]]
"""Checks a connection by the monotonic time when it was opened. Raises Unavailable.

See OutcomeHistory.require_current_database.
"""

IS_LOST = """
    not exists (
        select from publisher.pins p where p.pin_id = o.promised_pin_id
            and coalesce(p.generation, 0) >= coalesce(o.promised_generation, 0)
    )
"""
"""The condition on a row of row_outcomes, as `o`, whose pin is not published again yet."""


class LostPins:
    """Knows whether the database may lack pins."""

    def __init__(
        self, database: Database, require_current_database: RequireCurrentDatabase
    ) -> None:
        """Takes a check that rejects a connection to a possibly older copy of Postgres."""
        self._database = database
        self._require_current_database = require_current_database

    async def require_none(
        self,
        driver: DriverConnection,
        select_lost: str,
        values: Sequence[Any] | Mapping[str, Any],
        lacking: str,
    ) -> None:
        """Raises ApiError (503) if the connection is to an older copy, or a pin is selected.

        `lacking` names the pins in the message.
        """
        try:
            await self._require_current_database(self._database.connected_at(driver))
            cursor = await driver.execute(select_lost, values)
            if not await cursor.fetchall():
                return
        except PositionBehind:
            pass
        raise ApiError(
            ErrorCode.KEY_RECOVERING,
            f"The database may have been restored from a backup, and may still lack {lacking}. "
            "Send the request again in a few minutes.",
            HTTPStatus.SERVICE_UNAVAILABLE,
            headers=RETRY_AFTER,
        )
