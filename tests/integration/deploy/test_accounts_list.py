"""`pinflow accounts list` on a real database: it names the workspace whose accounts it shows."""

import asyncio
import os
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings
from tests.integration.conftest import Workspace, make_workspace


@pytest.fixture
def workspace(database_url: str) -> Workspace:
    async def prepare() -> Workspace:
        settings = DatabaseSettings(database_url=SecretStr(database_url))
        database = Database.from_settings(settings, application="test-accounts")
        try:
            return await make_workspace(database)
        finally:
            await database.dispose()

    return asyncio.run(prepare())


def list_accounts(database_url: str, workspace_id: UUID) -> Result:
    # The API key belongs to another workspace, or to none: the command does not use it
    variables = {
        **os.environ,
        "PINFLOW_DATABASE_URL": database_url,
        "PINFLOW_WORKSPACE_ID": str(workspace_id),
        "PINFLOW_API_KEY": "pf_of_another_workspace",
    }
    return CliRunner().invoke(app, ["accounts", "list"], env=variables)


def test_the_list_names_the_workspace_of_its_accounts(
    database_url: str, workspace: Workspace
) -> None:
    result = list_accounts(database_url, workspace.id)
    assert result.exit_code == ExitCode.DONE, result.output
    assert f"({workspace.id})" in result.stderr
    rest = result.stdout.splitlines()
    assert str(workspace.account_id) in "\n".join(rest)


def test_an_unknown_workspace_is_an_error(database_url: str) -> None:
    unknown = uuid4()
    result = list_accounts(database_url, unknown)
    assert result.exit_code == ExitCode.REFUSED
    assert f"There is no workspace {unknown}" in result.stderr
