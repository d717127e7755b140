"""How a command ends when it can't do what it was asked: a sentence, the next step, and an exit code."""

from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn, TypeVar

import psycopg
import typer
from pydantic import ValidationError

from shared.access.repository import AlreadyThere, NoSuchParent
from shared.database import is_passing
from shared.errors import BrokerUnavailable, DatabaseUnavailable

T = TypeVar("T")


class Exit(IntEnum):
    DONE = 0
    ROWS_FAILED = 1
    """The import was accepted and has ended; some of its rows failed, or all."""
    REFUSED = 2
    """Nothing was done: the request, or the command line, is wrong."""
    AWAY = 3
    """A server did not answer, or not in time: try again."""


def fail(message: str, code: Exit = Exit.REFUSED) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def explained(work: Callable[[], T]) -> T:
    """Do `work`; what Pinflow raises becomes a message and an exit code."""
    try:
        return work()
    except (NoSuchParent, AlreadyThere) as error:
        fail(str(error))
    except DatabaseUnavailable as error:
        fail(f"Postgres does not answer ({error}). Is PINFLOW_DATABASE_URL right? The local stack is started with: make up", Exit.AWAY)
    except BrokerUnavailable as error:
        fail(f"Kafka does not answer ({error}). Is PINFLOW_KAFKA_BOOTSTRAP_SERVERS right? The local stack: make up", Exit.AWAY)
    except ValidationError as error:
        wrong = "\n".join(f"  PINFLOW_{str(one['loc'][0]).upper()}: {one['msg']}" for one in error.errors())
        fail(f"The environment is wrong:\n{wrong}")
    except psycopg.Error as error:
        fail(f"Postgres says: {str(error).strip()}", Exit.AWAY if is_passing(error) else Exit.REFUSED)
