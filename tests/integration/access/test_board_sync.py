"""Boards of connected accounts are read from Pinterest, and a failed read changes nothing."""

from sqlalchemy import text

MAX_BOARDS = 700
WAITING = text(
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type "
    "= 'Lock'"
)
