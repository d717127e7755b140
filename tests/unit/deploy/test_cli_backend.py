"""Messages of the operators' commands after errors of Postgres."""

from typing import NoReturn

import psycopg
import pytest
import typer
from sqlalchemy.exc import IntegrityError, ProgrammingError

from deploy.cli.backend import exit_on_error
from deploy.cli.exit_codes import ExitCode

NOT_MIGRATED = psycopg.errors.UndefinedTable('relation "access.workspaces" does not exist')


@pytest.mark.parametrize(
    "error", [NOT_MIGRATED, ProgrammingError("select", None, NOT_MIGRATED)], ids=["psycopg", "orm"]
)
def test_an_error_of_postgres_ends_the_command_with_the_next_step(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> NoReturn:
        raise error

    with pytest.raises(typer.Exit) as exit_error:
        exit_on_error(work)
    assert exit_error.value.exit_code == ExitCode.REFUSED
    printed = capsys.readouterr().err
    assert printed.startswith(
        'Postgres reported an error: relation "access.workspaces" does not exist\n'
    )
    assert "pinflow migrate" in printed


def test_a_failed_connection_is_exit_code_3_and_names_the_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> NoReturn:
        raise psycopg.OperationalError('connection failed: password of "pinflow" is wrong\nmore')

    with pytest.raises(typer.Exit) as exit_error:
        exit_on_error(work)
    assert exit_error.value.exit_code == ExitCode.UNAVAILABLE
    printed = capsys.readouterr().err
    assert printed.startswith(
        'Can\'t use Postgres (connection failed: password of "pinflow" is wrong). Check '
    )
    assert "PINFLOW_DATABASE_URL" in printed


def test_an_unexpected_error_of_postgres_is_printed_without_advice_and_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    violation = psycopg.errors.UniqueViolation('duplicate key value violates "accounts_pkey"')

    def work() -> NoReturn:
        raise IntegrityError("insert", {"name": "secret"}, violation)

    with pytest.raises(typer.Exit):
        exit_on_error(work)
    assert capsys.readouterr().err == (
        'Postgres reported an error: duplicate key value violates "accounts_pkey"\n'
        "Some of the command's work may be done already.\n"
    )
