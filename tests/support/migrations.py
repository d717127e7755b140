"""Migrates an empty database up to an older revision, as an older Pinflow would leave it."""

import psycopg

from deploy.migrations.runner import ensure_roles, upgrade


def migrate_to(database_url: str, revision: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        ensure_roles(connection, {})
    upgrade(database_url, revision)
