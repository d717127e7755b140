"""Finds letters, plans their replay and replays them. replay_plan.py decides."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
from aiokafka import ConsumerRecord

from deploy.cli.dead_letters.filters import DeadLetterFilter
from deploy.cli.dead_letters.model import (
    DeadLetterName,
    ReplayMarker,
    StoredDeadLetter,
)
from deploy.cli.dead_letters.parsing import original_headers, parse_dead_letter, parse_marker
from deploy.cli.dead_letters.replay_plan import (
    PlannedAction,
    ReplayAsImport,
    ReplayToTopic,
    Skip,
    build_history_headers,
    build_import_request,
    name_target,
)
from deploy.cli.dead_letters.replayer import Replay, Replayer
from deploy.cli.dead_letters.repository import SettledRows
from deploy.cli.dead_letters.topic import DeadLetterTopic
from deploy.cli.row_id import RowId
from shared.contract.import_limits import MEBIBYTE
from shared.contract.row_identity import identify_row
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.records import Record
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings, KafkaSettings

MAX_CHUNK_LETTERS = 50
"""Letters of one chunk: so many, at most, are replayed again after an interruption."""
MAX_CHUNK_BYTES = 8 * MEBIBYTE


@dataclass(slots=True)
class SelectedLetters:
    """Letters that were selected, oldest of a partition first, and which of them have been
    replayed.
    """

    letters: list[StoredDeadLetter] = field(default_factory=list)
    markers: dict[DeadLetterName, ReplayMarker] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    """Up to where each partition was read."""

    def not_replayed(self) -> list[StoredDeadLetter]:
        return [letter for letter in self.letters if letter.name not in self.markers]


async def find(settings: KafkaSettings, letter_filter: DeadLetterFilter) -> SelectedLetters:
    names = TopicNames(settings.topic_prefix)
    found = SelectedLetters()
    async with DeadLetterTopic.open(settings) as topic:
        starts, found.ends = await _range(topic, letter_filter)
        async for record in topic.read(starts, found.ends):
            if marker := parse_marker(record):
                found.markers[marker.name] = marker
            elif letter_filter.matches(letter := parse_dead_letter(record, names)):
                found.letters.append(letter)
    return found


async def fetch(
    settings: KafkaSettings, name: DeadLetterName
) -> "ConsumerRecord[bytes, bytes] | None":
    """The letter as it lies there."""
    async with DeadLetterTopic.open(settings) as topic:
        first, end = (await topic.bounds()).get(name.partition, (0, 0))
        if first <= name.offset < end:
            async for record in topic.read(
                {name.partition: name.offset}, {name.partition: name.offset + 1}
            ):
                return None if parse_marker(record) else record
    return None


async def settled(letters: Collection[StoredDeadLetter]) -> set[RowId]:
    """Those of the letters' rows that have an outcome."""
    rows = {letter.row for letter in letters if letter.row}
    if not rows:
        return set()
    database = Database.from_settings(DatabaseSettings(), application="pinflow-cli")
    try:
        return await SettledRows(database).settled(rows)
    finally:
        await database.dispose()


async def replay(
    settings: KafkaSettings,
    planned: Sequence[PlannedAction],
    found: SelectedLetters,
    on_progress: Callable[[int], None],
) -> int:
    """Replays what is planned, except what another replay has marked by now. Returns how many.

    Two replays at the same time may both replay a letter: consumers are idempotent. `on_progress`
    is told how many letters each chunk had.
    """
    wanted = {one.letter.name: one for one in planned if not isinstance(one.action, Skip)}
    done = 0
    async with Replayer.start(settings) as replayer, DeadLetterTopic.open(settings) as topic:
        ends = {partition: end for partition, (_, end) in (await topic.bounds()).items()}
        async for record in topic.read(found.ends, ends):
            if marker := parse_marker(record):
                wanted.pop(marker.name, None)
        async for chunk in _split_into_chunks(_records(topic, wanted)):
            await replayer.replay(chunk)
            done += len(chunk)
            on_progress(len(chunk))
    return done


async def _range(
    topic: DeadLetterTopic, letter_filter: DeadLetterFilter
) -> tuple[dict[int, int], dict[int, int]]:
    bounds = await topic.bounds()
    starts = {partition: first for partition, (first, _) in bounds.items()}
    if letter_filter.since is not None:
        starts = await topic.offsets_at(letter_filter.since)
    if letter_filter.names:
        starts = {
            name.partition: name.offset
            for name in sorted(letter_filter.names, reverse=True)
            if name.partition in bounds
        }
    return starts, {partition: end for partition, (_, end) in bounds.items()}


async def _records(
    topic: DeadLetterTopic, wanted: dict[DeadLetterName, PlannedAction]
) -> AsyncIterator[Replay]:
    starts = {name.partition: name.offset for name in sorted(wanted, reverse=True)}
    ends = {name.partition: name.offset + 1 for name in sorted(wanted)}
    now = datetime.now(UTC)
    async for record in topic.read(starts, ends):
        if one := wanted.get(DeadLetterName(record.partition, record.offset)):
            yield _build_replay(one, record, now)


def _build_replay(
    one: PlannedAction, record: "ConsumerRecord[bytes, bytes]", now: datetime
) -> Replay:
    letter, value = one.letter, record.value or b""
    if isinstance(one.action, ReplayToTopic):
        back = Record(
            record.key, value, [*original_headers(record), *build_history_headers(letter)]
        )
        return Replay(letter.name, one.action.topic, back, name_target(one.action))
    row = identify_row(value)
    if row is None or not isinstance(one.action, ReplayAsImport):
        raise AssertionError("only a row with an identity becomes an import")
    request = build_import_request(letter, row.workspace_id, orjson.loads(value)["row"], now)
    return Replay(letter.name, TopicName.IMPORT_REQUESTS, request, name_target(one.action))


async def _split_into_chunks(replays: AsyncIterator[Replay]) -> AsyncIterator[list[Replay]]:
    chunk: list[Replay] = []
    size = 0
    async for replay in replays:
        if chunk and (
            len(chunk) == MAX_CHUNK_LETTERS or size + len(replay.record.value) > MAX_CHUNK_BYTES
        ):
            yield chunk
            chunk, size = [], 0
        chunk.append(replay)
        size += len(replay.record.value)
    if chunk:
        yield chunk
