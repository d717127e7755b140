"""Connects the commands on dead letters to Kafka and Postgres.

A command imports it when it runs, because that takes a second.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from deploy.cli.backend import explained
from deploy.cli.dead_letters import operations
from deploy.cli.dead_letters.decision import Planned, Stays, counts, plan
from deploy.cli.dead_letters.letter import Letter, Name
from deploy.cli.dead_letters.parsing import letter_of, original_headers
from deploy.cli.dead_letters.selection import Selection
from deploy.cli.dead_letters.topic import NoSuchTopic
from deploy.cli.exits import fail
from shared.contract.topics import TopicNames
from shared.runtime.settings import KafkaSettings

T = TypeVar("T")


class Content(NamedTuple):
    letter: Letter
    key: bytes
    headers: list[tuple[str, bytes]]
    value: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    found: operations.Found
    planned: list[Planned]

    @property
    def replayable(self) -> int:
        return sum(not isinstance(one.decision, Stays) for one in self.planned)

    def counts(self) -> dict[str, int]:
        return counts(self.planned)


def find(selection: Selection) -> operations.Found:
    return _run(operations.find(KafkaSettings(), selection))


def fetch(name: Name) -> Content | None:
    settings = KafkaSettings()
    record = _run(operations.fetch(settings, name))
    if record is None:
        return None
    letter = letter_of(record, TopicNames(settings.topic_prefix))
    return Content(letter, record.key or b"", original_headers(record), record.value or b"")


def make_plan(found: operations.Found, *, max_replays: int, force: bool, most: int | None) -> Plan:
    waiting = found.waiting()
    settled = _run(operations.settled(waiting))
    return Plan(found, plan(waiting, settled, max_replays=max_replays, force=force, most=most))


def replay(wanted: Plan, on_progress: Callable[[int], None]) -> int:
    return _run(operations.replay(KafkaSettings(), wanted.planned, wanted.found, on_progress))


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return explained(lambda: asyncio.run(work))
    except NoSuchTopic as error:
        fail(f"There is no topic {error}. Make it with: pinflow topics create")
