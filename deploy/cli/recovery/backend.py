"""Connects `pinflow recover` to Postgres and Kafka. Imported when the command runs."""

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
    """Returns the survey, its selected comparisons, and the unfinished jobs if a loss waits."""

    async def read(database: Database) -> tuple[Survey, list[Comparison], UnfinishedJobs | None]:
        found = await operations.survey(database, KafkaSettings())
        shown = select(found.comparisons, partition_filter)
        waits = bool(find_unaccepted(shown))
        return found, shown, await operations.unfinished(database) if waits else None

    return _run(read)


def accept(waiting: Sequence[Comparison]) -> list[AcceptedLoss]:
    """Accepts the losses that were shown."""
    return _run(lambda database: operations.accept(database, KafkaSettings(), waiting))


def find_lost(
    minutes: int, seconds: float
) -> tuple[list[UnfinishedJob], dict[TopicPartition, int]]:
    """Returns jobs whose rows do not settle by themselves, and the publisher's reached ends."""
    age = timedelta(minutes=minutes)
    return _run(
        lambda database: operations.find_lost(database, KafkaSettings(), age=age, seconds=seconds),
    )


def fail_lost(jobs: Sequence[UnfinishedJob], ends: dict[TopicPartition, int]) -> Counter[str]:
    """Settles the missing rows of jobs. Returns their numbers by status."""
    return _run(lambda database: operations.fail_lost(database, KafkaSettings(), jobs, ends))


def promised_keys() -> int:
    """Counts the keys kept for rows that Kafka lost."""
    return _run(operations.promised_keys)


def free_keys(ends: dict[TopicPartition, int]) -> int:
    """Frees those keys. Returns their number."""
    return _run(lambda database: operations.free_keys(database, KafkaSettings(), ends))


def _run(work: Callable[[Database], Awaitable[T]]) -> T:
    try:
        return with_database(work)
    except NotMigrated:
        fail("The database has no positions. Bring it to the newest schema: pinflow migrate")
    except MissingTopics as error:
        fail(
            f"Kafka has no topic {error}. Is PINFLOW_TOPIC_PREFIX right? On a new cluster create "
            "them: pinflow topics create",
        )
    except operations.NotReady as error:
        fail(str(error), ExitCode.UNAVAILABLE)
