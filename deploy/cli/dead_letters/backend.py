"""Connects the commands on dead letters to Kafka and Postgres.

A command imports it when it runs, because that takes a second.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from deploy.cli.backend import exit_on_error
from deploy.cli.dead_letters import operations
from deploy.cli.dead_letters.filters import DeadLetterFilter
from deploy.cli.dead_letters.model import DeadLetterName, StoredDeadLetter
from deploy.cli.dead_letters.parsing import original_headers, parse_dead_letter
from deploy.cli.dead_letters.replay_plan import PlannedAction, Skip, counts, plan
from deploy.cli.dead_letters.topic import NoSuchTopic
from deploy.cli.exit_codes import fail
from shared.contract.topics import TopicNames
from shared.runtime.settings import KafkaSettings

T = TypeVar("T")


class DeadLetterContent(NamedTuple):
    letter: StoredDeadLetter
    key: bytes
    headers: list[tuple[str, bytes]]
    value: bytes


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    found: operations.SelectedLetters
    planned: list[PlannedAction]

    @property
    def replayable(self) -> int:
        return sum(not isinstance(one.action, Skip) for one in self.planned)

    def counts(self) -> dict[str, int]:
        return counts(self.planned)


def find(letter_filter: DeadLetterFilter) -> operations.SelectedLetters:
    return _run(operations.find(KafkaSettings(), letter_filter))


def fetch(name: DeadLetterName) -> DeadLetterContent | None:
    settings = KafkaSettings()
    record = _run(operations.fetch(settings, name))
    if record is None:
        return None
    letter = parse_dead_letter(record, TopicNames(settings.topic_prefix))
    return DeadLetterContent(
        letter, record.key or b"", original_headers(record), record.value or b""
    )


def make_plan(
    found: operations.SelectedLetters, *, max_replays: int, force: bool, most: int | None
) -> ReplayPlan:
    waiting = found.not_replayed()
    settled = _run(operations.settled(waiting))
    return ReplayPlan(
        found, plan(waiting, settled, max_replays=max_replays, force=force, most=most)
    )


def replay(wanted: ReplayPlan, on_progress: Callable[[int], None]) -> int:
    return _run(operations.replay(KafkaSettings(), wanted.planned, wanted.found, on_progress))


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return exit_on_error(lambda: asyncio.run(work))
    except NoSuchTopic as error:
        fail(f"There is no topic {error}. Make it with: pinflow topics create")
