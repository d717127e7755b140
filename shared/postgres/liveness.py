"""Keeps the pool from handing out connections that did not survive a restart of Postgres."""

import select
import time
from typing import Any

import psycopg
from sqlalchemy import Engine, event, exc

PING_AFTER_SECONDS = 1.0
"""The time for which a connection that was used counts as alive, unless Postgres has closed it.

After that it is pinged, because a server may be gone without a word. A ping each time, as with
SQLAlchemy's pool_pre_ping, costs as much CPU as a short transaction.
"""
_USED_AT = "used_at"


class LivenessCheck:
    """Checks each pooled connection before it is used again.

    If one is dead, the pool replaces all that are older than now: the caller notices nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._dialect = engine.dialect
        event.listen(engine, "checkin", self._record_use)
        event.listen(engine, "checkout", self._require_alive)

    def _record_use(self, _dbapi_connection: object, record: Any) -> None:
        record.info[_USED_AT] = time.monotonic()

    def _require_alive(self, dbapi_connection: Any, record: Any, _proxy: object) -> None:
        used_at = record.info.pop(_USED_AT, None)
        if used_at is None:  # it was just opened
            return
        is_recent = time.monotonic() - used_at < PING_AFTER_SECONDS
        try:
            if not is_recent or _has_input(dbapi_connection.driver_connection):
                self._dialect.do_ping(dbapi_connection)
        except psycopg.Error as error:
            raise exc.InvalidatePoolError from error


def _has_input(driver: psycopg.AsyncConnection[Any]) -> bool:
    """Returns whether an idle connection has input: its end, an error or a notice."""
    poll = select.poll()
    poll.register(driver.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
