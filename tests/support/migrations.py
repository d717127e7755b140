"""Migrates an empty database up to an older revision, as an older Pinflow would leave it."""

import psycopg
from alembic import command
from sqlalchemy import create_engine

from deploy.migrations.runner import alembic_config, ensure_roles
from shared.postgres.database import sqlalchemy_url


def migrate_to(database_url: str, revision: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        ensure_roles(connection, {})
    engine = create_engine(sqlalchemy_url(database_url))
    try:
        with engine.begin() as connection:
            command.upgrade(alembic_config(connection), revision)
    finally:
        engine.dispose()
