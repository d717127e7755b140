"""Migration 0023, for accounts that are paused while Pinflow is upgraded."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from deploy.migrations.runner import migrate
from tests.support.infrastructure import Servers, copied_database
from tests.support.migrations import migrate_to

BEFORE_DURATIONS = "0022"
PAUSED = """
    insert into publisher.delivery_accounts (
        account_id, workspace_id, served_at, paused_until, pause_code, pause_message
    )
    values (%s, %s, now() - interval '2 hours', now() + %s * interval '1 hour', 'c', 'm')
"""


@pytest.fixture
def url(stack: Servers) -> Iterator[str]:
    with copied_database(stack.database_url) as url:
        migrate_to(url, BEFORE_DURATIONS)
        yield url


def test_a_pause_that_lasts_has_a_beginning_after_the_upgrade(url: str) -> None:
    paused, over = uuid4(), uuid4()
    with psycopg.connect(url) as connection:
        connection.execute(PAUSED, (paused, uuid4(), 1))
        connection.execute(PAUSED, (over, uuid4(), -1))
    migrate(url)
    with psycopg.connect(url) as connection:
        begun = connection.execute(
            "select account_id from publisher.delivery_accounts where paused_since = served_at"
        ).fetchall()
        unknown = connection.execute(
            "select account_id from publisher.delivery_accounts where paused_since is null"
        ).fetchall()
    assert (begun, unknown) == ([(paused,)], [(over,)])
