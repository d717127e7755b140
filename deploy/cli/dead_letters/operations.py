"""Finds dead letters and replays them. Does the I/O; replay_plan.py decides."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
from aiokafka import ConsumerRecord

from deploy.cli.dead_letters.filters import DeadLetterFilter
from deploy.cli.dead_letters.model import DeadLetterName, ReplayMarker, StoredDeadLetter
from deploy.cli.dead_letters.parsing import parse_dead_letter, parse_marker, read_original_headers
from deploy.cli.dead_letters.replay_plan import (
    PlannedAction,
    ReplayAsImport,
    ReplayToTopic,
    Skip,
    build_import_request,
    build_replay_headers,
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
"""Maximum dead letters in a chunk. After an interruption at most one chunk is replayed twice."""
MAX_CHUNK_BYTES = 8 * MEBIBYTE


@dataclass(slots=True)
class SelectedLetters:
    """The dead letters that a filter selects, and the markers of those that were replayed.

    The dead letters of a partition are in the order of their offsets.
    """

    letters: list[StoredDeadLetter] = field(default_factory=list)
    markers: dict[DeadLetterName, ReplayMarker] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    """The offset up to which each partition was read."""

    def not_replayed(self) -> list[StoredDeadLetter]:
        """Returns the dead letters without a marker."""
        return [letter for letter in self.letters if letter.name not in self.markers]


async def find(settings: KafkaSettings, letter_filter: DeadLetterFilter) -> SelectedLetters:
    """Reads the dead letters that the filter selects, and all markers."""
    names = TopicNames(settings.topic_prefix)
    selected = SelectedLetters()
    async with DeadLetterTopic.open(settings) as topic:
        starts, selected.ends = await _choose_range(topic, letter_filter)
        async for record in topic.read(starts, selected.ends):
            if marker := parse_marker(record):
                selected.markers[marker.name] = marker
            elif letter_filter.matches(letter := parse_dead_letter(record, names)):
                selected.letters.append(letter)
    return selected


async def fetch(
    settings: KafkaSettings, name: DeadLetterName
) -> "ConsumerRecord[bytes, bytes] | None":
    """Reads the record of one dead letter, or returns None if it does not exist."""
    async with DeadLetterTopic.open(settings) as topic:
        first, end = (await topic.read_bounds()).get(name.partition, (0, 0))
        if first <= name.offset < end:
            async for record in topic.read(
                {name.partition: name.offset}, {name.partition: name.offset + 1}
            ):
                return None if parse_marker(record) else record
    return None


async def find_settled_rows(letters: Collection[StoredDeadLetter]) -> set[RowId]:
    """Reads which rows of the dead letters have settled."""
    rows = {letter.row for letter in letters if letter.row}
    if not rows:
        return set()
    database = Database.from_settings(DatabaseSettings(), application="pinflow-cli")
    try:
        return await SettledRows(database).find(rows)
    finally:
        await database.dispose()


async def replay(
    settings: KafkaSettings,
    plan: Sequence[PlannedAction],
    selected: SelectedLetters,
    on_progress: Callable[[int], None],
) -> int:
    """Replays the plan, except dead letters that another replay has marked meanwhile.

    Returns the number of replayed dead letters. Calls `on_progress` with the size of each chunk.
    Two replays at the same time may both replay a dead letter: consumers are idempotent.
    """
    pending = {
        planned.letter.name: planned for planned in plan if not isinstance(planned.action, Skip)
    }
    total = 0
    async with Replayer.start(settings) as replayer, DeadLetterTopic.open(settings) as topic:
        ends = {partition: end for partition, (_, end) in (await topic.read_bounds()).items()}
        async for record in topic.read(selected.ends, ends):
            if marker := parse_marker(record):
                pending.pop(marker.name, None)
        async for chunk in _split_into_chunks(_build_replays(topic, pending)):
            await replayer.replay(chunk)
            total += len(chunk)
            on_progress(len(chunk))
    return total


async def _choose_range(
    topic: DeadLetterTopic, letter_filter: DeadLetterFilter
) -> tuple[dict[int, int], dict[int, int]]:
    """Returns the offsets to start and end at, by partition."""
    bounds = await topic.read_bounds()
    starts = {partition: first for partition, (first, _) in bounds.items()}
    if letter_filter.since is not None:
        starts = await topic.find_offsets_at(letter_filter.since)
    if letter_filter.names:
        starts = {
            name.partition: name.offset
            for name in sorted(letter_filter.names, reverse=True)
            if name.partition in bounds
        }
    return starts, {partition: end for partition, (_, end) in bounds.items()}


async def _build_replays(
    topic: DeadLetterTopic, pending: dict[DeadLetterName, PlannedAction]
) -> AsyncIterator[Replay]:
    starts = {name.partition: name.offset for name in sorted(pending, reverse=True)}
    ends = {name.partition: name.offset + 1 for name in sorted(pending)}
    now = datetime.now(UTC)
    async for record in topic.read(starts, ends):
        if planned := pending.get(DeadLetterName(record.partition, record.offset)):
            yield _build_replay(planned, record, now)


def _build_replay(
    planned: PlannedAction, record: "ConsumerRecord[bytes, bytes]", now: datetime
) -> Replay:
    (letter, action), value = planned, record.value or b""
    if isinstance(action, ReplayToTopic):
        original = Record(
            record.key, value, [*read_original_headers(record), *build_replay_headers(letter)]
        )
        return Replay(letter.name, action.topic, original, name_target(action))
    row = identify_row(value)
    if row is None or not isinstance(action, ReplayAsImport):
        raise AssertionError("only a row with an identity becomes an import")
    request = build_import_request(letter, row.workspace_id, orjson.loads(value)["row"], now)
    return Replay(letter.name, TopicName.IMPORT_REQUESTS, request, name_target(action))


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
