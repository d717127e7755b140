"""`pinflow deliveries resume` on a real database: it ends pauses, and says what it ended."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.integration.conftest import Workspace, make_workspace

_PIN = """
    insert into publisher.pins (
        pin_id, workspace_id, account_id, fingerprint, created_at, state, idempotency_key,
        board_id, title, image_url, delivery, deliver_after, deferral_code
    ) values (
        gen_random_uuid(), %(workspace_id)s, %(account_id)s, gen_random_uuid(), now(), 'queued',
        gen_random_uuid()::text, '1', 'Lamp', 'https://cdn.example/1.jpg', 'pinterest',
        now() + interval '1 hour', %(code)s
    )
"""
_PAUSE = """
    insert into publisher.delivery_accounts (
        account_id, workspace_id, paused_until, pause_code, pause_message, pause_step
    ) values (
        %(account_id)s, %(workspace_id)s, now() + interval '1 hour', %(code)s, 'Blocked.', 2
    )
"""
_REMOVAL = """
    insert into publisher.removals (
        pin_id, workspace_id, account_id, pinterest_pin_id, release_key, next_at
    ) values (gen_random_uuid(), %(workspace_id)s, %(account_id)s, '1', false,
        now() + interval '1 hour')
"""
_BUDGET = """
    insert into publisher.pinterest_budgets (mode, account_id, category, level, blocked_until)
    values ('simulated', %(account_id)s, 'org_write', 0, now() + interval '1 hour')
"""
_CONNECTION = """
    insert into access.connections (
        account_id, workspace_id, mode, pinterest_user_id, grant_type, scopes, token_version,
        token_expires_at, health_code, health_message
    ) values (
        %(account_id)s, %(workspace_id)s, 'simulated', %(account_id)s::text, 'authorization_code',
        '{pins:write}', 1, now(), %(health)s, 'Connect it again.'
    )
"""
_APP = """
    insert into publisher.delivery_apps (mode, paused_until, pause_code, pause_message)
    values ('simulated', now() + interval '1 hour', 'app_not_approved', 'Ask for access.')
"""


class Installation:
    """A database with one account, and an operator."""

    def __init__(self, database_url: str, workspace: Workspace) -> None:
        self._url = database_url
        self.account_id = workspace.account_id
        self.values = {"workspace_id": workspace.id, "account_id": workspace.account_id}

    def execute(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        url = self._url.replace("+psycopg", "")
        with psycopg.connect(url, row_factory=dict_row) as connection:
            cursor = connection.execute(statement, {**self.values, **values})
            return cursor.fetchall() if cursor.description else []

    def resume(self, *arguments: str | UUID) -> Result:
        variables: Mapping[str, str] = {**os.environ, "PINFLOW_DATABASE_URL": self._url}
        arguments = ("deliveries", "resume", *map(str, arguments))
        return CliRunner().invoke(app, [str(each) for each in arguments], env=variables)


@pytest.fixture
def installation(database_url: str) -> Iterator[Installation]:
    async def prepare() -> Workspace:
        settings = DatabaseSettings(database_url=SecretStr(database_url))
        database = Database.from_settings(settings, application="test-resume")
        try:
            return await make_workspace(database)
        finally:
            await database.dispose()

    installation = Installation(database_url, asyncio.run(prepare()))
    yield installation
    installation.execute("truncate publisher.delivery_apps")


def test_an_accounts_pause_ends_with_all_its_waits_and_keeps_its_step(
    installation: Installation,
) -> None:
    installation.execute(_PAUSE, code="rate_limited")
    for code in ("media_unreachable", None):
        installation.execute(_PIN, code=code)
    installation.execute(_REMOVAL)
    installation.execute(_BUDGET)
    result = installation.resume(installation.account_id)
    assert result.exit_code == ExitCode.DONE, result.output
    assert f"Ended the pause of account {installation.account_id}: rate_limited" in result.stdout
    assert "Blocked." in result.stdout
    assert "1 pin that waited by itself" in result.stdout
    assert "1 removal that waited" in result.stdout
    assert "Pinterest may refuse again" in result.stdout
    (account,) = installation.execute(
        "select paused_until <= clock_timestamp() as is_over, pause_code, pause_step "
        "from publisher.delivery_accounts where account_id = %(account_id)s"
    )
    assert account == {"is_over": True, "pause_code": "rate_limited", "pause_step": 2}
    pins = installation.execute(
        "select deliver_after is not null as waits from publisher.pins "
        "where account_id = %(account_id)s order by 1"
    )
    assert [pin["waits"] for pin in pins] == [False, True], "one waits for its video"
    (rest,) = installation.execute(
        "select (select count(*) from publisher.removals where account_id = %(account_id)s "
        "and next_at > clock_timestamp()) + (select count(*) from publisher.pinterest_budgets "
        "where account_id = %(account_id)s and blocked_until is not null) as count"
    )
    assert rest["count"] == 0
    again = installation.resume(installation.account_id)
    assert again.stdout == f"Account {installation.account_id} is not paused.\n"


def test_an_account_that_waits_for_pinterests_limit_is_not_called_unpaused(
    installation: Installation,
) -> None:
    installation.execute(_CONNECTION, health=None)
    installation.execute(_BUDGET)
    (budget,) = installation.execute(
        "select to_char(blocked_until at time zone 'utc', 'YYYY-MM-DD HH24:MI') as until "
        "from publisher.pinterest_budgets where account_id = %(account_id)s"
    )
    result = installation.resume(installation.account_id)
    assert result.exit_code == ExitCode.DONE, result.output
    assert f"waits for Pinterest's limit of changes until {budget['until']}" in result.stdout
    assert "Nobody can end that limit" in result.stdout
    assert "lower PINFLOW_DELIVERY_ACCOUNT_WRITES_PER_MINUTE" in result.stdout
    assert "is not paused" not in result.stdout
    paused = installation.execute(
        "select from publisher.delivery_accounts where account_id = %(account_id)s"
    )
    assert paused == [], "no pause is written"


def test_the_end_of_a_pause_names_pinterests_limit_too(installation: Installation) -> None:
    installation.execute(_CONNECTION, health=None)
    installation.execute(_PAUSE, code="rate_limited")
    installation.execute(_BUDGET)
    output = installation.resume(installation.account_id).stdout
    assert f"Ended the pause of account {installation.account_id}: rate_limited" in output
    assert "waits for Pinterest's limit of changes until" in output


@pytest.mark.parametrize(
    "change",
    ["mode = 'sandbox'", "category = 'org_read'", "blocked_until = now() - interval '1 second'"],
)
def test_another_limit_of_pinterest_is_no_wait_of_the_account(
    installation: Installation, change: str
) -> None:
    installation.execute(_CONNECTION, health=None)
    installation.execute(_BUDGET)
    installation.execute(
        f"update publisher.pinterest_budgets set {change} where account_id = %(account_id)s"
    )
    result = installation.resume(installation.account_id)
    assert result.stdout == f"Account {installation.account_id} is not paused.\n"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("scope_missing", "If Pinterest refuses again, connect"),
        ("quota_exceeded", "Raise PINFLOW_DELIVERY_DAILY_PINS"),
        ("quota_exceeded", "restart the publisher and the delivery"),
        ("token_revoked", "pinflow accounts connect --account"),
    ],
)
def test_what_the_end_of_a_pause_does_not_change_is_said(
    installation: Installation, code: str, hint: str
) -> None:
    installation.execute(_PAUSE, code=code)
    assert hint in installation.resume(installation.account_id).stdout


def test_an_account_without_access_stays_paused_and_that_is_said(
    installation: Installation,
) -> None:
    installation.execute(_CONNECTION, health="token_revoked")
    installation.execute(_PAUSE, code="token_revoked")
    result = installation.resume(installation.account_id)
    output = result.stdout
    assert result.exit_code == ExitCode.ACCOUNTS_PAUSED
    assert f"Account {installation.account_id} stays paused" in output
    assert "(token_revoked)" in output
    assert f"pinflow accounts connect --account {installation.account_id}" in output
    assert "Ended the pause" not in output
    assert "may refuse again" not in output


def test_a_disconnected_account_stays_paused_and_that_is_said(installation: Installation) -> None:
    installation.execute(_CONNECTION, health="token_revoked")
    installation.execute(
        "update access.connections set disconnected_at = now() where account_id = %(account_id)s"
    )
    installation.execute(_PIN, code="media_unreachable")
    output = installation.resume(installation.account_id).stdout
    assert f"Account {installation.account_id} stays paused" in output
    assert "(account_not_connected)" in output
    assert f"pinflow accounts connect --account {installation.account_id}" in output
    assert "is not paused" not in output
    assert "may refuse again" not in output


def test_the_resume_of_an_account_names_the_pause_of_the_app(installation: Installation) -> None:
    installation.execute(_CONNECTION, health=None)
    installation.execute(_APP)
    result = installation.resume(installation.account_id)
    assert result.exit_code == ExitCode.ACCOUNTS_PAUSED
    assert f"Account {installation.account_id} is not paused." in result.stdout
    assert "app_not_approved" in result.stdout
    assert "pinflow deliveries resume --app" in result.stdout
    (row,) = installation.execute(
        "select paused_until > clock_timestamp() as lasts from publisher.delivery_apps"
    )
    assert row["lasts"]


def test_a_pause_of_the_app_in_another_mode_does_not_stop_the_account(
    installation: Installation,
) -> None:
    installation.execute(_CONNECTION, health=None)
    installation.execute(_APP.replace("simulated", "sandbox"))
    installation.execute(_PAUSE, code="spam_blocked")
    result = installation.resume(installation.account_id)
    assert result.exit_code == ExitCode.DONE, result.output
    assert f"Ended the pause of account {installation.account_id}" in result.stdout
    assert "The app is paused" not in result.stdout


def test_the_pause_of_the_app_ends(installation: Installation) -> None:
    installation.execute(_APP)
    result = installation.resume("--app")
    assert "Ended the pause of the app in the mode simulated: app_not_approved" in result.stdout
    (row,) = installation.execute(
        "select paused_until <= clock_timestamp() as is_over from publisher.delivery_apps"
    )
    assert row["is_over"]
    assert "The app is not paused." in installation.resume("--app").stdout


def test_an_unknown_account_and_a_wrong_command_line_are_refused(
    installation: Installation,
) -> None:
    for arguments in [(uuid4(),), (), (installation.account_id, "--app")]:
        result = installation.resume(*arguments)
        assert result.exit_code == ExitCode.REFUSED, arguments
        assert "pinflow deliveries" in result.stderr
