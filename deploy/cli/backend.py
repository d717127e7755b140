"""Connects the administration commands to Postgres and Kafka.

Commands import this module when they run. It imports slow modules in the functions that need them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NoReturn, TypeVar
from uuid import UUID

import psycopg
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from deploy.administration import (
    AlreadyExists,
    NewWorkspace,
    NoSuchParent,
    OperatorRepository,
    PauseRepository,
    UnknownAccounts,
)
from deploy.administration import create_key as insert_key
from deploy.administration import create_workspace as insert_workspace
from deploy.cli.exit_codes import ExitCode, fail
from deploy.services import SERVICES
from shared.access.keys import Scope
from shared.contract.errors import BrokerUnavailable, DatabaseUnavailable
from shared.postgres.database import Database, is_transient
from shared.postgres.row import Row
from shared.runtime.settings import DatabaseSettings, KafkaSettings, describe_invalid_settings

T = TypeVar("T")


def migrate_database(environment: Mapping[str, str]) -> None:
    """Brings the database to the newest schema.

    Sets the passwords of the services' roles from PINFLOW_INGEST_PASSWORD and the like.
    """
    from deploy.migrations.runner import migrate  # noqa: PLC0415 - Alembic: 0.2 s

    passwords = {
        service.role: password
        for service in SERVICES.values()
        if (password := environment.get(service.password_variable))
    }
    exit_on_error(lambda: migrate(DatabaseSettings().database_url.get_secret_value(), passwords))


def create_topics() -> tuple[list[str], list[str]]:
    """Creates the missing topics. Returns their names, and remarks on the other topics."""
    from deploy import topics  # noqa: PLC0415 - aiokafka: 0.1 s
    from deploy.old_topics import NotDrained  # noqa: PLC0415

    try:
        created = exit_on_error(lambda: asyncio.run(topics.create_topics(KafkaSettings())))
    except NotDrained as error:
        fail(str(error))
    return created.topics.names, topics.describe_creation(created)


_MIGRATE = "Run: pinflow migrate"
_NEXT_STEPS: dict[type, str] = {
    psycopg.errors.UndefinedTable: _MIGRATE,
    psycopg.errors.UndefinedColumn: _MIGRATE,
    psycopg.errors.InvalidSchemaName: _MIGRATE,
    psycopg.errors.InsufficientPrivilege: (
        "Set PINFLOW_DATABASE_URL to the URL of the database's owner."
    ),
}


def create_workspace(name: str, *, accounts: int, boards: int) -> NewWorkspace:
    return with_operator(
        lambda operator: insert_workspace(operator, name, accounts=accounts, boards=boards)
    )


def create_key(
    workspace_id: UUID, name: str, scopes: Sequence[Scope], account_ids: Sequence[UUID]
) -> tuple[Row, str]:
    return with_operator(
        lambda operator: insert_key(
            operator, workspace_id, name=name, scopes=scopes, account_ids=account_ids
        )
    )


def with_operator(work: Callable[[OperatorRepository], Awaitable[T]]) -> T:
    """Calls `work` with the repository of the schema `access`, as the database's owner."""
    return with_database(lambda database: work(OperatorRepository(database)))


def with_deliveries(work: Callable[[PauseRepository], Awaitable[T]]) -> T:
    """Calls `work` with the repository of pauses, as the database's owner."""
    return with_database(lambda database: work(PauseRepository(database)))


def with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Calls `work` with the database of PINFLOW_DATABASE_URL, as its owner."""

    async def connect_and_work() -> T:
        database = Database.from_settings(DatabaseSettings(), application="pinflow-cli")
        try:
            return await work(database)
        finally:
            await database.dispose()

    return exit_on_error(lambda: asyncio.run(connect_and_work()))


def exit_on_error(work: Callable[[], T]) -> T:
    """Calls `work`. Ends the command with a message and an exit code after an expected error.

    Expected are invalid settings, unknown ids, and errors of Postgres or Kafka. Temporary
    errors of Kafka arrive as BrokerUnavailable.
    """
    try:
        return work()
    except (NoSuchParent, AlreadyExists, UnknownAccounts) as error:
        fail(str(error))
    except DatabaseUnavailable as error:
        _fail_without_database(error)
    except BrokerUnavailable as error:
        fail(
            f"Kafka does not answer ({error}). Check PINFLOW_KAFKA_BOOTSTRAP_SERVERS. Start "
            "the local stack with: make up",
            ExitCode.UNAVAILABLE,
        )
    except ValidationError as error:
        fail(describe_invalid_settings(error))
    except (psycopg.Error, DBAPIError) as error:
        if is_transient(error):
            _fail_without_database(error)
        fail(_describe_database_error(error))
    except Exception as error:
        if (message := _describe_kafka_error(error)) is None:
            raise
        fail(message)


def _describe_kafka_error(error: Exception) -> str | None:
    """Describes a permanent error of Kafka. Returns None for any other exception."""
    from aiokafka import errors  # noqa: PLC0415 - 0.1 s, and only after an error

    if not isinstance(error, errors.KafkaError):
        return None
    refused = (
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.TransactionalIdAuthorizationFailed,
    )
    unauthenticated = (
        errors.AuthenticationFailedError,
        errors.AuthenticationMethodNotSupported,
        errors.IllegalSaslStateError,
        errors.SaslAuthenticationFailed,
        errors.UnsupportedSaslMechanismError,
    )
    if isinstance(error, refused):
        return (
            f"Kafka does not permit this command: {error}. Grant its user the rights in "
            "docs/how-to/run-in-production.md#3-grant-rights-in-kafka, or set "
            "PINFLOW_KAFKA_SASL_USERNAME to a user that has them."
        )
    if isinstance(error, unauthenticated):
        return (
            f"Kafka refuses the login: {error}. Check PINFLOW_KAFKA_SASL_USERNAME, "
            "PINFLOW_KAFKA_SASL_PASSWORD and PINFLOW_KAFKA_SASL_MECHANISM."
        )
    return (
        f"Kafka reported a permanent error: {error}. Correct its cause, then run the command "
        "again. Some of the command's work may be done already."
    )


# libpq reports no SQLSTATE for a refused connection
_REFUSED_LOGINS = ("password authentication failed", "no password supplied")


def _fail_without_database(error: Exception) -> NoReturn:
    reason = str(error).strip().partition("\n")[0]
    if any(refusal in str(error) for refusal in _REFUSED_LOGINS):
        fail(
            "The password in PINFLOW_DATABASE_URL is missing, or wrong for this database "
            f"({reason}). The local stack has new passwords after make clean. To load them into "
            "this shell: set -a; . .pinflow/env; set +a"
        )
    fail(
        f"Can't use Postgres ({reason}). Check PINFLOW_DATABASE_URL. Start the local stack with: "
        "make up",
        ExitCode.UNAVAILABLE,
    )


def _describe_database_error(error: psycopg.Error | DBAPIError) -> str:
    """Builds the message without the error's DETAIL, which may contain a row."""
    reason = error.orig if isinstance(error, DBAPIError) else error
    diagnostics = reason.diag if isinstance(reason, psycopg.Error) else None
    message = (diagnostics and diagnostics.message_primary) or str(reason).strip()
    advice = _NEXT_STEPS.get(type(reason), "Some of the command's work may be done already.")
    return f"Postgres reported an error: {message}\n{advice}"
