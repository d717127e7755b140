"""Finds letters, plans their replay and replays them. decision.py decides."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
from aiokafka import ConsumerRecord

from deploy.cli.dead_letters.decision import (
    BecomesImport,
    GoesBack,
    Planned,
    Stays,
    history,
    replayed_as,
    request_of,
)
from deploy.cli.dead_letters.letter import Letter, Mark, Name, RowName
from deploy.cli.dead_letters.parsing import letter_of, mark_of, original_headers
from deploy.cli.dead_letters.replaying import Replay, Replayer
from deploy.cli.dead_letters.repository import Settlements
from deploy.cli.dead_letters.selection import Selection
from deploy.cli.dead_letters.topic import LettersTopic
from shared.contract.import_limits import MEBIBYTE
from shared.contract.row_identity import identify_row
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.records import Record
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings, KafkaSettings

LETTERS_AT_ONCE = 50
"""Letters of one portion: so many, at most, are replayed again after an interruption."""
BYTES_AT_ONCE = 8 * MEBIBYTE


@dataclass(slots=True)
class Found:
    """Letters that were selected, oldest of a partition first, and which of them have been
    replayed.
    """

    letters: list[Letter] = field(default_factory=list)
    marks: dict[Name, Mark] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    """Up to where each partition was read."""

    def waiting(self) -> list[Letter]:
        return [letter for letter in self.letters if letter.name not in self.marks]


async def find(settings: KafkaSettings, selection: Selection) -> Found:
    names = TopicNames(settings.topic_prefix)
    found = Found()
    async with LettersTopic.opened(settings) as topic:
        starts, found.ends = await _range(topic, selection)
        async for record in topic.read(starts, found.ends):
            if mark := mark_of(record):
                found.marks[mark.name] = mark
            elif selection.takes(letter := letter_of(record, names)):
                found.letters.append(letter)
    return found


async def fetch(settings: KafkaSettings, name: Name) -> "ConsumerRecord[bytes, bytes] | None":
    """The letter as it lies there."""
    async with LettersTopic.opened(settings) as topic:
        first, end = (await topic.bounds()).get(name.partition, (0, 0))
        if first <= name.offset < end:
            async for record in topic.read(
                {name.partition: name.offset}, {name.partition: name.offset + 1}
            ):
                return None if mark_of(record) else record
    return None


async def settled(letters: Collection[Letter]) -> set[RowName]:
    """Those of the letters' rows that have an outcome."""
    rows = {letter.row for letter in letters if letter.row}
    if not rows:
        return set()
    database = Database.of(DatabaseSettings(), application="pinflow-cli")
    try:
        return await Settlements(database).settled(rows)
    finally:
        await database.dispose()


async def replay(
    settings: KafkaSettings,
    planned: Sequence[Planned],
    found: Found,
    on_progress: Callable[[int], None],
) -> int:
    """Replays what is planned, except what another replay has marked by now. Returns how many.

    Two replays at the same time may both replay a letter: consumers are idempotent. `on_progress`
    is told how many letters each portion had.
    """
    wanted = {one.letter.name: one for one in planned if not isinstance(one.decision, Stays)}
    done = 0
    async with Replayer.started(settings) as replayer, LettersTopic.opened(settings) as topic:
        ends = {partition: end for partition, (_, end) in (await topic.bounds()).items()}
        async for record in topic.read(found.ends, ends):
            if mark := mark_of(record):
                wanted.pop(mark.name, None)
        async for portion in _portions(_records(topic, wanted)):
            await replayer.replay(portion)
            done += len(portion)
            on_progress(len(portion))
    return done


async def _range(
    topic: LettersTopic, selection: Selection
) -> tuple[dict[int, int], dict[int, int]]:
    bounds = await topic.bounds()
    starts = {partition: first for partition, (first, _) in bounds.items()}
    if selection.since is not None:
        starts = await topic.offsets_at(selection.since)
    if selection.names:
        starts = {
            name.partition: name.offset
            for name in sorted(selection.names, reverse=True)
            if name.partition in bounds
        }
    return starts, {partition: end for partition, (_, end) in bounds.items()}


async def _records(topic: LettersTopic, wanted: dict[Name, Planned]) -> AsyncIterator[Replay]:
    starts = {name.partition: name.offset for name in sorted(wanted, reverse=True)}
    ends = {name.partition: name.offset + 1 for name in sorted(wanted)}
    now = datetime.now(UTC)
    async for record in topic.read(starts, ends):
        if one := wanted.get(Name(record.partition, record.offset)):
            yield _replay_of(one, record, now)


def _replay_of(one: Planned, record: "ConsumerRecord[bytes, bytes]", now: datetime) -> Replay:
    letter, value = one.letter, record.value or b""
    if isinstance(one.decision, GoesBack):
        back = Record(record.key, value, [*original_headers(record), *history(letter)])
        return Replay(letter.name, one.decision.topic, back, replayed_as(one.decision))
    row = identify_row(value)
    if row is None or not isinstance(one.decision, BecomesImport):
        raise AssertionError("only a row with an identity becomes an import")
    request = request_of(letter, row.workspace_id, orjson.loads(value)["row"], now)
    return Replay(letter.name, TopicName.IMPORT_REQUESTS, request, replayed_as(one.decision))


async def _portions(replays: AsyncIterator[Replay]) -> AsyncIterator[list[Replay]]:
    portion: list[Replay] = []
    size = 0
    async for replay in replays:
        if portion and (
            len(portion) == LETTERS_AT_ONCE or size + len(replay.record.value) > BYTES_AT_ONCE
        ):
            yield portion
            portion, size = [], 0
        portion.append(replay)
        size += len(replay.record.value)
    if portion:
        yield portion
