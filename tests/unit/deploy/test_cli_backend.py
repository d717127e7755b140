"""Messages of the operators' commands after errors of Postgres and Kafka."""

from typing import NoReturn

import psycopg
import pytest
import typer
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InvalidReplicationFactorError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)
from sqlalchemy.exc import IntegrityError, ProgrammingError

from deploy.cli.backend import exit_on_error
from deploy.cli.exit_codes import ExitCode
from shared.contract.errors import DatabaseUnavailable

NOT_MIGRATED = psycopg.errors.UndefinedTable('relation "access.workspaces" does not exist')


def run_failing(error: Exception) -> int:
    """Runs work that raises `error`. Returns the command's exit code."""

    def work() -> NoReturn:
        raise error

    with pytest.raises(typer.Exit) as ended:
        exit_on_error(work)
    return ended.value.exit_code


@pytest.mark.parametrize(
    "error", [NOT_MIGRATED, ProgrammingError("select", None, NOT_MIGRATED)], ids=["psycopg", "orm"]
)
def test_an_error_of_postgres_ends_the_command_with_the_next_step(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_failing(error) == ExitCode.REFUSED
    assert capsys.readouterr().err == (
        'Postgres reported an error: relation "access.workspaces" does not exist\n'
        "Run: pinflow migrate\n"
    )


def test_a_failed_connection_is_exit_code_3_and_names_the_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = psycopg.OperationalError("connection failed: the password is wrong\nmore")
    assert run_failing(refused) == ExitCode.UNAVAILABLE
    assert capsys.readouterr().err.startswith(
        "Can't use Postgres (connection failed: the password is wrong). Check PINFLOW_DATABASE_URL."
    )


@pytest.mark.parametrize(
    "reason",
    [
        'connection failed: FATAL:  password authentication failed for user "owner"',
        "connection failed: fe_sendauth: no password supplied",
    ],
)
@pytest.mark.parametrize("wrapper", [psycopg.OperationalError, DatabaseUnavailable])
def test_a_missing_or_wrong_password_is_exit_code_2_and_says_how_to_load_the_environment(
    wrapper: type[Exception], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_failing(wrapper(f"{reason}\nmore")) == ExitCode.REFUSED
    assert capsys.readouterr().err == (
        "The password in PINFLOW_DATABASE_URL is missing, or wrong for this database "
        f"({reason}). The local stack has new passwords after make clean. To load them into this "
        "shell: set -a; . .pinflow/env; set +a\n"
    )


def test_an_unexpected_error_of_postgres_is_printed_without_advice_and_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    violation = psycopg.errors.UniqueViolation('duplicate key value violates "accounts_pkey"')
    assert run_failing(IntegrityError("insert", {"name": "secret"}, violation)) == ExitCode.REFUSED
    assert capsys.readouterr().err == (
        'Postgres reported an error: duplicate key value violates "accounts_pkey"\n'
        "Some of the command's work may be done already.\n"
    )


@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        (TopicAuthorizationFailedError("pinflow.dead-letters.v1"), "#3-grant-rights-in-kafka"),
        (GroupAuthorizationFailedError("pinflow.status"), "#3-grant-rights-in-kafka"),
        (SaslAuthenticationFailed("bad password"), "PINFLOW_KAFKA_SASL_PASSWORD"),
        (InvalidReplicationFactorError("3"), "Correct its cause"),
    ],
)
def test_a_permanent_error_of_kafka_ends_the_command_with_the_next_step(
    error: Exception, next_step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_failing(error) == ExitCode.REFUSED
    printed = capsys.readouterr().err
    assert str(error) in printed
    assert next_step in printed


def test_a_bug_keeps_its_traceback() -> None:
    def work() -> NoReturn:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        exit_on_error(work)
