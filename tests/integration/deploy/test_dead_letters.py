"""`pinflow dead-letters` on a real broker: it lists, shows and replays, and loses nothing."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord
from sqlalchemy import create_engine, text

from deploy.cli.dead_letters.filters import DeadLetterFilter
from deploy.cli.dead_letters.model import MAX_REPLAYS
from deploy.cli.dead_letters.operations import MAX_CHUNK_LETTERS, SelectedLetters, find, replay
from deploy.cli.dead_letters.replay_plan import PlannedAction, plan_replay
from deploy.cli.dead_letters.replayer import Replay, Replayer
from deploy.cli.exit_codes import ExitCode
from shared.contract.errors import ErrorCode
from shared.contract.events import RecordKind
from shared.contract.import_records import is_whole_import, kind_prefix
from shared.contract.topics import TopicName
from shared.contract.wire import encode
from shared.kafka.dead_letters import MAX_VALUE_BYTES
from shared.postgres.database import sqlalchemy_url
from tests.support.dead_letters import Operator, operator, to_compact_json
from tests.support.events import event_document
from tests.support.factories import failed_result, import_accepted, row_accepted, rows_settled
from tests.support.kafka import read_records, reader

__all__ = ["operator"]

KILLS = 1
RECORDS_BEFORE_KILL = 2 * MAX_CHUNK_LETTERS
"""A replay is killed after this many records: one chunk has its markers, and another is probably
being sent."""
PINFLOW = str(Path(sys.executable).with_name("pinflow"))


def read_topic(operator: Operator, topic: TopicName) -> list["ConsumerRecord[bytes, bytes]"]:
    return asyncio.run(
        read_records(
            operator.settings.kafka_bootstrap_servers, operator.settings.topic_prefix, topic
        )
    )


def read_with_prefix(
    operator: Operator, topic: TopicName, prefix: bytes
) -> list["ConsumerRecord[bytes, bytes]"]:
    """Reads the records of one test: all tests of the module share the topics."""
    return [
        record for record in read_topic(operator, topic) if (record.value or b"").startswith(prefix)
    ]


def test_dead_letters_are_listed_filtered_and_counted(operator: Operator) -> None:
    job, workspace = uuid4(), uuid4()
    named = to_compact_json(
        {"kind": "r", "job_id": str(job), "workspace_id": str(workspace), "row_number": 0}
    )
    operator.write_dead_letters(TopicName.IMPORTS, named, key=str(job).encode())
    operator.write_dead_letters(
        TopicName.OUTCOMES, b"listed \xff", key=str(job).encode(), service="status"
    )
    operator.write_dead_letters(
        TopicName.IMPORT_REQUESTS,
        b"listed",
        key=str(workspace).encode(),
        service="ingest",
        code=ErrorCode.WORKSPACE_NOT_FOUND,
    )
    listed = operator.run_json("list", "--job", str(job))
    assert [letter["topic"] for letter in listed] == ["outcomes", "imports"]  # newest first
    assert [
        letter["topic"]
        for letter in operator.run_json("list", "--job", str(job), "--oldest", "--limit", "1")
    ] == ["imports"]
    assert {
        letter["topic"] for letter in operator.run_json("list", "--workspace", str(workspace))
    } == {
        "imports",
        "import-requests",
    }
    for filters, topic in (
        (("--service", "ingest"), "import-requests"),
        (("--code", "workspace_not_found"), "import-requests"),
        (("--topic", "imports", "--job", str(job)), "imports"),
    ):
        assert [letter["topic"] for letter in operator.run_json("list", *filters)] == [topic]
    assert operator.run_json("list", "--since", "2031-01-01") == []
    assert len(operator.run_json("list", "--since", "1h", "--job", str(job))) == 2
    (group,) = operator.run_json("list", "--histogram", "--service", "ingest")
    assert (group["letters"], group["topic"], group["code"], group["message"]) == (
        1,
        "import-requests",
        "workspace_not_found",
        "unreadable",
    )
    table = operator.run("list", "--job", str(job))
    assert "2 dead letters: 2 invalid_record." in table.output
    assert listed[0]["name"] in table.output


def test_a_dead_letter_is_shown_with_its_bytes(operator: Operator) -> None:
    text_value = b"shown text \x1b[2J" + b"x" * 5000
    operator.write_dead_letters(
        TopicName.OUTCOMES,
        b"shown \xff\x00",
        text_value,
        headers=[("trace", b"\xfe")],
        service="status",
    )
    texts, binary = (
        letter["name"] for letter in operator.run_json("list", "--topic", "outcomes")[:2]
    )
    result = operator.run("show", binary)
    assert "7368 6f77 6e20 ff00" in result.output
    assert "0xfe" in result.output
    result = operator.run("show", texts)
    assert r"shown text \u001b[2J" in result.output
    assert "1015 more bytes" in result.output
    assert operator.run("show", texts, "--raw").stdout_bytes == text_value


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("show", "9:1"), ExitCode.REFUSED, "There is no dead letter 9:1"),
        (("show", "0:99999999"), ExitCode.REFUSED, "There is no dead letter 0:99999999"),
        (("show", "nonsense"), ExitCode.REFUSED, "partition:offset"),
        (("replay", "2:99999999"), ExitCode.REFUSED, "There is no dead letter 2:99999999"),
        (("replay", "--topic", "nowhere"), ExitCode.REFUSED, "'imports'"),
        (("list", "--since", "yesterday"), ExitCode.REFUSED, "neither"),
    ],
)
def test_a_wrong_name_or_filter_is_refused_with_the_reason(
    operator: Operator, arguments: tuple[str, ...], code: ExitCode, message: str
) -> None:
    result = operator.run(*arguments)
    assert (result.exit_code, message in result.output) == (code, True), result.output


def test_an_unavailable_kafka_or_a_missing_topic_is_reported_with_the_next_step(
    operator: Operator,
) -> None:
    unavailable = operator.run("list", PINFLOW_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    assert (unavailable.exit_code, "Kafka does not answer" in unavailable.output) == (
        ExitCode.UNAVAILABLE,
        True,
    )
    missing = operator.run("list", PINFLOW_TOPIC_PREFIX="never-made")
    assert (missing.exit_code, "pinflow topics create" in missing.output) == (
        ExitCode.REFUSED,
        True,
    ), missing.output


def test_a_replay_sends_the_same_key_value_and_headers_and_counts_itself(
    operator: Operator,
) -> None:
    operator.write_dead_letters(
        TopicName.OUTCOMES,
        b"back \xff",
        key=b"its key",
        headers=[("trace", b"\xfe"), ("pinflow-replay-count", b"1")],
    )
    (name,) = (
        letter["name"]
        for letter in operator.run_json("list", "--topic", "outcomes")
        if letter["replays"] == 1
    )
    assert "Check the plan with --dry-run" in operator.run("replay", name).output
    dry = operator.run_json("replay", name, "--dry-run")
    assert (dry["done"], dry["counts"], dry["reasons"][0]["code"]) == (
        False,
        {"back to outcomes": 1},
        "invalid_record",
    )
    assert read_with_prefix(operator, TopicName.OUTCOMES, b"back") == []
    assert operator.run("replay", name, "--yes").exit_code == ExitCode.DONE
    (record,) = read_with_prefix(operator, TopicName.OUTCOMES, b"back")
    headers = dict(record.headers)
    assert (record.key, record.value, headers["trace"], headers["pinflow-replay-count"]) == (
        b"its key",
        b"back \xff",
        b"\xfe",
        b"2",
    )
    assert set(headers) == {"trace", "pinflow-replay-count", "pinflow-first-seen"}
    second = operator.run("replay", name, "--yes")
    assert (
        second.exit_code,
        "1 dead letter was left out: replayed before" in second.output,
    ) == (ExitCode.DONE, True)
    assert len(read_with_prefix(operator, TopicName.OUTCOMES, b"back")) == 1
    assert name not in {letter["name"] for letter in operator.run_json("list")}
    (shown,) = (
        letter for letter in operator.run_json("list", "--replayed") if letter["name"] == name
    )
    assert shown["replayed_as"] == "outcomes"


def test_a_dead_letter_that_was_replayed_too_often_needs_force_or_a_higher_limit(
    operator: Operator,
) -> None:
    operator.write_dead_letters(
        TopicName.IMPORTS,
        b"quarantined",
        service="status",
        headers=[("pinflow-replay-count", b"3")],
    )
    operator.write_dead_letters(TopicName.IMPORTS, b"first try", service="status")
    filters = ("replay", "--topic", "imports", "--since", "1m", "--yes")
    partial = operator.run(*filters)
    assert (partial.exit_code, "quarantined" in partial.output) == (
        ExitCode.LETTERS_NOT_REPLAYED,
        True,
    ), partial.output
    refused = operator.run(*filters)
    assert (refused.exit_code, "--force" in refused.output) == (ExitCode.REFUSED, True), (
        refused.output
    )
    assert read_with_prefix(operator, TopicName.IMPORTS, b"quarantined") == []
    assert operator.run(*filters, "--max-replays", "4").exit_code == ExitCode.DONE
    (record,) = read_with_prefix(operator, TopicName.IMPORTS, b"quarantined")
    assert dict(record.headers)["pinflow-replay-count"] == b"4"
    operator.write_dead_letters(
        TopicName.IMPORTS, b"forced", service="status", headers=[("pinflow-replay-count", b"9")]
    )
    assert operator.run(*filters, "--force").exit_code == ExitCode.DONE
    assert len(read_with_prefix(operator, TopicName.IMPORTS, b"forced")) == 1


def test_invariant_8_a_settled_row_is_sent_again_as_a_new_import(
    operator: Operator, database_url: str
) -> None:
    settled, unsettled = row_accepted(row_number=3), row_accepted()
    without_content = event_document(row_accepted()) | {"row": None}
    for row in (event_document(settled), without_content):
        record_failure(database_url, row["job_id"], row["row_number"])
    values = [
        encode(settled),
        encode(unsettled),
        to_compact_json(without_content),
    ]
    operator.write_dead_letters(TopicName.IMPORTS, *values, code=ErrorCode.RECORD_REFUSED)
    # The same record again, delivered before its offset was committed
    operator.write_dead_letters(TopicName.IMPORTS, values[0], code=ErrorCode.RECORD_REFUSED)
    result = operator.run_json("replay", "--code", "record_refused", "--topic", "imports", "--yes")
    assert [(letter["replay_as"], letter["stays"]) for letter in result["letters"]] == [
        ("new-import", None),
        ("imports", None),
        (None, "no_content"),
        ("new-import", None),
    ]
    rows = [
        record
        for record in read_with_prefix(operator, TopicName.IMPORTS, kind_prefix(RecordKind.ROW))
        if record.value in values
    ]
    assert [record.value for record in rows] == [values[1]]
    requests = read_topic(operator, TopicName.IMPORT_REQUESTS)
    assert (
        len({record.value for record in requests}) == 1
    )  # one request id and one body: ingest accepts one job
    request, headers = json.loads(requests[0].value or b""), dict(requests[0].headers)
    assert requests[0].key == str(settled.workspace_id).encode()
    assert (request["workspace_id"], request["rows"]) == (
        str(settled.workspace_id),
        [event_document(settled)["row"]],
    )
    assert (headers["ce_type"], headers["pinflow-replay-count"]) == (
        b"pinflow.import.requested.v1",
        b"1",
    )


def record_failure(database_url: str, job_id: Any, row_number: int) -> None:
    engine = create_engine(sqlalchemy_url(database_url))
    with engine.begin() as connection:
        statement = text(
            "insert into publisher.row_outcomes (job_id, row_number, status, error_code, "
            "error_message) "
            "values (:job, :row, 'failed', 'c', 'm')"
        )
        connection.execute(statement, {"job": job_id, "row": row_number})
    engine.dispose()


def test_max_limits_a_replay_to_the_oldest_dead_letters(operator: Operator) -> None:
    operator.write_dead_letters(
        TopicName.OUTCOMES, *(b"most-%d" % number for number in range(5)), message="most"
    )
    command = ("replay", "--topic", "outcomes", "--since", "1m", "--yes")
    waiting = {letter["name"] for letter in operator.run_json("list", "--topic", "outcomes")}
    result = operator.run_json(*command, "--max", "3")
    assert sum(letter["replay_as"] is not None for letter in result["letters"]) == 3
    assert (
        len(
            waiting
            - {letter["name"] for letter in operator.run_json("list", "--topic", "outcomes")}
        )
        == 3
    )


def test_invariant_8_a_replay_that_is_killed_loses_nothing(operator: Operator) -> None:
    """Kills a replay with SIGKILL in the middle of a chunk, then runs another to its end."""
    total = 2000
    values = [b"killed-%04d" % number for number in range(total)]
    operator.write_dead_letters(TopicName.OUTCOMES, *values, code=ErrorCode.REQUEST_ID_REUSED)
    filters = ("replay", "--code", "request_id_reused", "--topic", "outcomes", "--yes")
    command = [PINFLOW, "dead-letters", *filters]
    kills = [asyncio.run(run_and_kill(operator, command)) for _ in range(KILLS)]
    assert all(kills), "a replay ended before it was killed"
    rest = operator.run_json(*filters)["letters"]
    assert 0 < len(rest) < total
    replayed = [
        record.value or b"" for record in read_with_prefix(operator, TopicName.OUTCOMES, b"killed-")
    ]
    assert sorted(set(replayed)) == values
    assert len(replayed) <= total + KILLS * MAX_CHUNK_LETTERS  # at most one chunk is replayed twice
    assert operator.run_json("list", "--code", "request_id_reused", "--topic", "outcomes") == []


def find_and_plan(operator: Operator, job: UUID) -> tuple[SelectedLetters, list[PlannedAction]]:
    """Finds the job's letters and plans to replay all of them."""
    selected = asyncio.run(find(operator.settings, DeadLetterFilter(job_id=job)))
    return selected, plan_replay(
        selected.not_replayed(), set(), max_replays=MAX_REPLAYS, force=False, limit=None
    )


def replay_until_interrupted(operator: Operator, job: UUID) -> None:
    selected, plan = find_and_plan(operator, job)
    with pytest.raises(Interruption):
        asyncio.run(replay(operator.settings, plan, selected, lambda _: None))


class Interruption(Exception):
    """Ends a replay as Ctrl+C, a crash or an unavailable broker does."""


def test_invariant_8_a_replay_that_ends_between_send_and_mark_loses_nothing(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = uuid4()
    operator.write_dead_letters(
        TopicName.OUTCOMES, *(b"unmarked-%d" % number for number in range(3)), key=str(job).encode()
    )
    before = operator.run_json("list", "--job", str(job))

    async def send_only(self: Replayer, replays: Sequence[Replay]) -> None:
        await self.send(replays)
        raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(Replayer, "replay", send_only)
        replay_until_interrupted(operator, job)
    assert len(read_with_prefix(operator, TopicName.OUTCOMES, b"unmarked-")) == 3
    assert (
        operator.run_json("list", "--job", str(job)) == before
    )  # without a marker they are not replayed yet
    assert operator.run("replay", "--job", str(job), "--yes").exit_code == ExitCode.DONE
    assert len(read_with_prefix(operator, TopicName.OUTCOMES, b"unmarked-")) == 6
    assert operator.run_json("list", "--job", str(job)) == []


def test_invariant_8_a_replay_that_ends_within_a_chunk_loses_nothing(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = uuid4()
    values = [b"within-%02d" % number for number in range(MAX_CHUNK_LETTERS + 10)]
    operator.write_dead_letters(TopicName.OUTCOMES, *values, key=str(job).encode())
    chunks = 0

    async def send_part(self: Replayer, replays: Sequence[Replay]) -> None:
        nonlocal chunks
        chunks += 1
        if chunks == 1:
            return await original(self, replays)
        await self.send(replays[:5])
        raise Interruption

    original = Replayer.replay
    with monkeypatch.context() as patch:
        patch.setattr(Replayer, "replay", send_part)
        replay_until_interrupted(operator, job)
    rest = operator.run_json("replay", "--job", str(job), "--yes")["letters"]
    assert len(rest) == 10  # the first chunk has its markers
    replayed = [
        record.value or b"" for record in read_with_prefix(operator, TopicName.OUTCOMES, b"within-")
    ]
    assert sorted(set(replayed)) == values
    assert len(replayed) == len(values) + 5


def test_two_replays_at_the_same_time_lose_nothing(operator: Operator) -> None:
    job = uuid4()
    values = [b"both-%02d" % number for number in range(10)]
    operator.write_dead_letters(TopicName.OUTCOMES, *values, key=str(job).encode())
    selected, plan = find_and_plan(operator, job)

    async def both() -> None:
        replays = (replay(operator.settings, plan, selected, lambda _: None) for _ in range(2))
        await asyncio.gather(*replays)

    asyncio.run(both())
    replayed = [
        record.value or b"" for record in read_with_prefix(operator, TopicName.OUTCOMES, b"both-")
    ]
    assert sorted(set(replayed)) == values
    assert operator.run_json("list", "--job", str(job)) == []


def test_invariant_8_replayed_rows_hide_no_record_that_status_reads(operator: Operator) -> None:
    """Status stops at the first row of a batch that looks like one whole import."""
    job = uuid4()
    imported = to_compact_json(event_document(import_accepted(job_id=job, batch_records=3)))
    row = to_compact_json(event_document(row_accepted(job_id=job)))
    results = to_compact_json(
        event_document(rows_settled(import_accepted(job_id=job), failed_result()))
    )
    assert is_whole_import(imported, 3)
    operator.write_dead_letters(TopicName.IMPORTS, imported, row, results, key=str(job).encode())
    assert operator.run("replay", "--job", str(job), "--yes").exit_code == ExitCode.DONE
    values = [
        record.value
        for record in read_topic(operator, TopicName.IMPORTS)
        if record.key == str(job).encode()
    ]
    assert values == [imported, results, row]


def test_the_largest_dead_letter_is_replayed(operator: Operator) -> None:
    value = b"largest" + b"x" * (MAX_VALUE_BYTES - 7)
    headers = [("h", b"x" * 100 * 1024)]
    job = uuid4()
    operator.write_dead_letters(
        TopicName.IMPORTS, value, key=str(job).encode(), headers=headers, service="status"
    )
    assert operator.run("replay", "--job", str(job), "--yes").exit_code == ExitCode.DONE
    (record,) = read_with_prefix(operator, TopicName.IMPORTS, b"largest")
    assert (record.value, dict(record.headers)["h"]) == (value, headers[0][1])


def environment(operator: Operator) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("PINFLOW_")
    }
    return {**inherited, **operator.environment}


async def run_and_kill(operator: Operator, command: list[str]) -> bool:
    """Runs a command and kills it. Returns False if it ended before that."""
    topic = operator.names[TopicName.OUTCOMES]
    async with reader(operator.settings.kafka_bootstrap_servers, topic) as consumer:
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
        process = await asyncio.create_subprocess_exec(
            *command, env=environment(operator), stdout=DEVNULL, stderr=DEVNULL
        )
        seen = 0
        while process.returncode is None and seen <= RECORDS_BEFORE_KILL:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=20)).values()))
        if process.returncode is None:
            process.kill()
        return await process.wait() == -signal.SIGKILL
