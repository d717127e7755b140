"""Connects the commands on dead letters to Kafka and Postgres.

Commands import this module when they run, because the import takes a second.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from deploy.cli.backend import exit_on_error
from deploy.cli.dead_letters import operations
from deploy.cli.dead_letters.filters import DeadLetterFilter
from deploy.cli.dead_letters.model import DeadLetterName, StoredDeadLetter
from deploy.cli.dead_letters.parsing import parse_dead_letter, read_original_headers
from deploy.cli.dead_letters.replay_plan import PlannedAction, Skip, count_actions, plan_replay
from deploy.cli.dead_letters.topic import NoSuchTopic
from deploy.cli.exit_codes import fail
from shared.contract.topics import TopicNames
from shared.runtime.settings import KafkaSettings

T = TypeVar("T")


class DeadLetterContent(NamedTuple):
    """A dead letter with the original record's key, headers and value."""

    letter: StoredDeadLetter
    key: bytes
    headers: list[tuple[str, bytes]]
    value: bytes


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The selected dead letters, and an action for each that was not replayed before."""

    selected: operations.SelectedLetters
    actions: list[PlannedAction]

    @property
    def replay_count(self) -> int:
        """The number of dead letters that will be replayed."""
        return sum(not isinstance(planned.action, Skip) for planned in self.actions)

    def count_actions(self) -> dict[str, int]:
        """Counts the dead letters of each action."""
        return count_actions(self.actions)


def find(letter_filter: DeadLetterFilter) -> operations.SelectedLetters:
    """Reads the dead letters that the filter selects."""
    return _run(operations.find(KafkaSettings(), letter_filter))


def fetch(name: DeadLetterName) -> DeadLetterContent | None:
    """Reads one dead letter with its bytes, or returns None if it does not exist."""
    settings = KafkaSettings()
    record = _run(operations.fetch(settings, name))
    if record is None:
        return None
    letter = parse_dead_letter(record, TopicNames(settings.topic_prefix))
    return DeadLetterContent(
        letter, record.key or b"", read_original_headers(record), record.value or b""
    )


def make_plan(
    selected: operations.SelectedLetters, *, max_replays: int, force: bool, limit: int | None
) -> ReplayPlan:
    """Plans the replay of the selected dead letters that were not replayed before."""
    letters = selected.not_replayed()
    settled = _run(operations.find_settled_rows(letters))
    actions = plan_replay(letters, settled, max_replays=max_replays, force=force, limit=limit)
    return ReplayPlan(selected, actions)


def replay(plan: ReplayPlan, on_progress: Callable[[int], None]) -> int:
    """Replays the plan. Returns the number of replayed dead letters."""
    return _run(operations.replay(KafkaSettings(), plan.actions, plan.selected, on_progress))


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return exit_on_error(lambda: asyncio.run(work))
    except NoSuchTopic as error:
        fail(
            f"Kafka has no topic {error}. Check PINFLOW_TOPIC_PREFIX. On a new cluster, create the "
            "topics with: pinflow topics create"
        )
