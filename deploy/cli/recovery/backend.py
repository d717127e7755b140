"""Connects `pinflow recover` to Postgres and Kafka. The command imports it when it runs."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from aiokafka import TopicPartition

from deploy.cli.backend import with_database
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.recovery import operations
from deploy.cli.recovery.cluster import MissingTopics
from deploy.cli.recovery.comparison import AcceptedLoss, Comparison, find_unaccepted, select
from deploy.cli.recovery.lost_rows import UnfinishedJob
from deploy.cli.recovery.positions import PartitionFilter
from deploy.cli.recovery.repository import NotMigrated
from deploy.cli.recovery.summary import Survey, UnfinishedJobs
from shared.postgres.database import Database
from shared.runtime.settings import KafkaSettings

T = TypeVar("T")


def survey(
    partition_filter: PartitionFilter,
) -> tuple[Survey, list[Comparison], UnfinishedJobs | None]:
    """Returns the survey, its selected comparisons, and the unfinished jobs if there is a loss."""

    async def read(database: Database) -> tuple[Survey, list[Comparison], UnfinishedJobs | None]:
        survey = await operations.survey(database, KafkaSettings())
        shown = select(survey.comparisons, partition_filter)
        has_loss = bool(find_unaccepted(shown))
        unfinished = await operations.read_unfinished_jobs(database) if has_loss else None
        return survey, shown, unfinished

    return _run(read)


def accept(losses: Sequence[Comparison]) -> list[AcceptedLoss]:
    """Accepts the shown losses whose state has not changed. Returns these."""
    return _run(lambda database: operations.accept(database, KafkaSettings(), losses))


def find_lost_rows(
    minutes: int, seconds: float
) -> tuple[list[UnfinishedJob], dict[TopicPartition, int]]:
    """Finds the jobs with rows that will get no result from the services.

    Also returns the offsets that the publisher has reached in `imports`.
    """
    age = timedelta(minutes=minutes)
    return _run(
        lambda database: operations.find_lost_rows(
            database, KafkaSettings(), age=age, seconds=seconds
        ),
    )


def settle_lost_rows(
    jobs: Sequence[UnfinishedJob], ends: dict[TopicPartition, int]
) -> Counter[str]:
    """Settles the rows without a result. Returns the number of rows by status."""
    return _run(lambda database: operations.settle_lost_rows(database, KafkaSettings(), jobs, ends))


def count_reserved_keys() -> int:
    """Counts the idempotency keys that are reserved for rows that Kafka lost."""
    return _run(operations.count_reserved_keys)


def free_reserved_keys(ends: dict[TopicPartition, int]) -> int:
    """Frees the keys that `count_reserved_keys` counts. Returns their number."""
    return _run(lambda database: operations.free_reserved_keys(database, KafkaSettings(), ends))


def _run(work: Callable[[Database], Awaitable[T]]) -> T:
    try:
        return with_database(work)
    except NotMigrated:
        fail(
            "The database lacks tables that this command reads. Bring it to the newest schema "
            "with: pinflow migrate"
        )
    except MissingTopics as error:
        fail(
            f"Kafka has no topic {error}. Check PINFLOW_TOPIC_PREFIX. On a new cluster, create the "
            "topics with: pinflow topics create"
        )
    except operations.LossNotAccepted as error:
        fail(str(error), ExitCode.LOSS_NOT_ACCEPTED)
    except operations.NotReady as error:
        fail(str(error), ExitCode.UNAVAILABLE)
