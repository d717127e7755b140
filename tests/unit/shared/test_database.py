"""The classification of Postgres errors: transient, about a value, or a bug."""

import psycopg
import pytest
from psycopg import errors
from pydantic import SecretStr

from shared.postgres.database import REJECTED_VALUE_ERRORS, Database, is_transient
from shared.runtime.settings import DatabaseSettings

TRANSIENT = [
    errors.ConnectionFailure,
    errors.TooManyConnections,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.QueryCanceled,
    errors.IoError,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
    errors.LockNotAvailable,
]
INTEGRITY = [
    errors.NotNullViolation,
    errors.CheckViolation,
    errors.UniqueViolation,
    errors.ForeignKeyViolation,
]
VALUE_ERRORS = [
    psycopg.DataError,
    errors.DatetimeFieldOverflow,
    errors.StringDataRightTruncation,
    errors.ProgramLimitExceeded,
]


@pytest.mark.parametrize("error", TRANSIENT)
def test_invariant_9_a_temporary_error_is_transient(error: type[psycopg.Error]) -> None:
    assert is_transient(error())
    assert not issubclass(error, REJECTED_VALUE_ERRORS)


@pytest.mark.parametrize("error", INTEGRITY)
def test_invariant_9_a_constraint_violation_is_neither_transient_nor_a_rejected_value(
    error: type[psycopg.Error],
) -> None:
    assert not is_transient(error())
    assert not issubclass(error, REJECTED_VALUE_ERRORS)


@pytest.mark.parametrize("error", VALUE_ERRORS)
def test_an_error_about_a_value_rejects_the_value(error: type[psycopg.Error]) -> None:
    assert not is_transient(error())
    assert issubclass(error, REJECTED_VALUE_ERRORS)


def test_a_broken_connection_is_transient() -> None:
    assert is_transient(psycopg.OperationalError("server closed the connection unexpectedly"))


def test_errors_of_the_engine_hide_parameters() -> None:
    engine = Database.from_settings(
        DatabaseSettings(database_url=SecretStr("postgresql://u@h/d")), application="test"
    ).engine
    assert engine.sync_engine.hide_parameters
