"""Dead letters: parsing, filters, and the action that a replay takes for each."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from deploy.cli.dead_letters.filters import (
    CodeFilter,
    DeadLetterFilter,
    ServiceFilter,
    TopicFilter,
    build_histogram,
)
from deploy.cli.dead_letters.model import (
    DeadLetterName,
    StoredDeadLetter,
)
from deploy.cli.dead_letters.parsing import parse_dead_letter, parse_marker
from deploy.cli.dead_letters.replay_plan import (
    ReplayAction,
    ReplayAsImport,
    ReplayToTopic,
    Skip,
    SkipReason,
    build_import_request,
    choose_action,
    plan_replay,
)
from deploy.cli.dead_letters.tables import MAX_SHOWN_BYTES, format_value
from deploy.cli.row_id import RowId
from deploy.cli.times import parse_since
from services.ingest.parsing.rows import require_rows
from shared.contract.errors import ErrorCode
from shared.contract.events import ImportRequested
from shared.contract.import_limits import MAX_REQUEST_BYTES, MEBIBYTE
from shared.contract.topics import TopicName
from tests.support.dead_letters import NAMES, build_dead_letter, consumed_record, to_compact_json
from tests.support.events import event_document, parse_event
from tests.support.factories import NOON, row_accepted
from tests.support.imports import validate

JOB, WORKSPACE = uuid4(), uuid4()


def letter(
    value: bytes = b"{}", *, offset: int = 0, minutes: int = 0, reason: Any = None, **original: Any
) -> StoredDeadLetter:
    """Returns a dead letter as its consumer writes it and the command reads it."""
    record = build_dead_letter(consumed_record(value, **original), **(reason or {}))
    time = int((NOON + timedelta(minutes=minutes)).timestamp() * 1000)
    return parse_dead_letter(
        consumed_record(
            record.value, key=record.key, headers=record.headers, offset=offset, timestamp=time
        ),
        NAMES,
    )


def row_document(**fields: Any) -> dict[str, Any]:
    return {
        **event_document(row_accepted(job_id=JOB, workspace_id=WORKSPACE, row_number=7)),
        **fields,
    }


def row_letter(row: dict[str, Any], **fields: Any) -> StoredDeadLetter:
    return letter(to_compact_json(row), **fields)


def test_a_dead_letter_has_its_source_its_error_and_its_row() -> None:
    parsed = row_letter(row_document(version=2), partition=3, offset=41)
    assert (
        parsed.name,
        parsed.topic,
        parsed.partition,
        parsed.offset,
        parsed.service,
        parsed.code,
    ) == (
        DeadLetterName(0, 41),
        "imports",
        "3",
        "0",
        "publisher",
        "invalid_record",
    )
    assert (parsed.job_id, parsed.workspace_id, parsed.row, parsed.replays) == (
        JOB,
        WORKSPACE,
        RowId(JOB, 7),
        0,
    )
    assert parsed.given_up_at == NOON


@pytest.mark.parametrize(
    ("topic", "job_id", "workspace_id"),
    [
        (TopicName.IMPORTS, JOB, None),
        (TopicName.OUTCOMES, JOB, None),
        (TopicName.IMPORT_REQUESTS, None, JOB),
        (TopicName.PIN_EVENTS, None, JOB),
    ],
)
def test_the_key_identifies_the_job_or_workspace_of_an_unreadable_record(
    topic: TopicName, job_id: UUID | None, workspace_id: UUID | None
) -> None:
    parsed = letter(b"\xff", topic=NAMES[topic], key=str(JOB).encode())
    assert (parsed.job_id, parsed.workspace_id, parsed.row) == (job_id, workspace_id, None)


def test_the_first_line_identifies_the_job_of_an_upload() -> None:
    upload = {"kind": "u", "job_id": str(JOB), "workspace_id": str(WORKSPACE), "row_number": 1}
    parsed = letter(to_compact_json(upload) + b"\n\xff\x00")
    assert (parsed.job_id, parsed.workspace_id, parsed.row) == (JOB, WORKSPACE, None)


@pytest.mark.parametrize("kind", ["i", "s", "u", "x", ""])
def test_only_a_record_of_the_kind_row_is_a_row(kind: str) -> None:
    assert row_letter(row_document(kind=kind)).row is None
    assert row_letter(row_document()).row == RowId(JOB, 7)


def test_a_record_that_no_service_wrote_is_read() -> None:
    parsed = parse_dead_letter(
        consumed_record(
            None, key=None, headers=[("pinflow-replay-count", b"-1"), ("pinflow-topic", b"\xff")]
        ),
        NAMES,
    )
    assert (parsed.topic, parsed.code, parsed.replays, choose_action(parsed, is_settled=False)) == (
        None,
        "",
        0,
        Skip(SkipReason.UNKNOWN_TOPIC),
    )


def test_a_poison_record_cant_look_like_a_marker() -> None:
    record = build_dead_letter(consumed_record(b"x", headers=[("pinflow-replayed", b"0")]))
    assert parse_marker(consumed_record(record.value, headers=record.headers)) is None
    assert parse_marker(consumed_record(b"", headers=[("pinflow-replayed", b"17")])) is not None


DEEP: Any = {"title": "x"}
for _ in range(300):
    DEEP = {"title": DEEP}


@pytest.mark.parametrize(
    ("parsed", "settled", "action"),
    [
        (row_letter(row_document()), True, ReplayAsImport()),
        (row_letter(row_document()), False, ReplayToTopic(TopicName.IMPORTS)),
        (row_letter(row_document(row=None)), True, Skip(SkipReason.NO_CONTENT)),
        (row_letter(row_document(row=DEEP)), True, Skip(SkipReason.NO_CONTENT)),
        (letter(b"\xff"), False, ReplayToTopic(TopicName.IMPORTS)),
        (letter(topic=NAMES[TopicName.OUTCOMES]), False, ReplayToTopic(TopicName.OUTCOMES)),
        (
            letter(
                topic=NAMES[TopicName.IMPORT_REQUESTS], headers=[("pinflow-replay-count", b"3")]
            ),
            False,
            Skip(SkipReason.QUARANTINED),
        ),
        (
            letter(
                topic=NAMES[TopicName.IMPORT_REQUESTS], headers=[("pinflow-replay-count", b"2")]
            ),
            False,
            ReplayToTopic(TopicName.IMPORT_REQUESTS),
        ),
        (row_letter(row_document(kind="x")), False, ReplayToTopic(TopicName.IMPORTS)),
        (
            letter(b"x" * MEBIBYTE, topic=NAMES[TopicName.OUTCOMES]),
            False,
            Skip(SkipReason.TOO_LARGE),
        ),
        (
            letter(b"x" * 6 * MEBIBYTE, topic=NAMES[TopicName.IMPORTS]),
            False,
            ReplayToTopic(TopicName.IMPORTS),
        ),
        (
            row_letter(row_document(row={"title": "x" * MAX_REQUEST_BYTES})),
            False,
            ReplayToTopic(TopicName.IMPORTS),
        ),
        (
            row_letter(row_document(row={"title": "x" * MAX_REQUEST_BYTES})),
            True,
            Skip(SkipReason.TOO_LARGE),
        ),
        (
            letter(b"x" * 8 * MEBIBYTE, topic=NAMES[TopicName.IMPORTS]),
            False,
            Skip(SkipReason.TRUNCATED),
        ),
        (letter(topic=NAMES[TopicName.DEAD_LETTERS]), False, Skip(SkipReason.UNKNOWN_TOPIC)),
        (letter(topic="other.imports.v2"), False, Skip(SkipReason.UNKNOWN_TOPIC)),
        (row_letter(row_document(), topic="pinflow.rows.v1"), True, Skip(SkipReason.UNKNOWN_TOPIC)),
        (letter(topic="pinflow.imports.v1"), False, Skip(SkipReason.UNKNOWN_TOPIC)),
    ],
)
def test_invariant_8_each_dead_letter_has_one_replay_action(
    parsed: StoredDeadLetter, settled: bool, action: ReplayAction
) -> None:
    assert choose_action(parsed, is_settled=settled) == action


def test_force_replays_quarantined_dead_letters_and_no_others_that_are_skipped() -> None:
    often = [("pinflow-replay-count", b"99")]
    assert choose_action(
        letter(topic=NAMES[TopicName.IMPORTS], headers=often), is_settled=False, force=True
    ) == ReplayToTopic(TopicName.IMPORTS)
    assert choose_action(
        row_letter(row_document(row=None), headers=often), is_settled=True, force=True
    ) == Skip(SkipReason.NO_CONTENT)


def test_a_plan_is_oldest_first_and_skipped_dead_letters_do_not_count() -> None:
    stays = letter(topic="elsewhere", minutes=1)
    letters = [letter(offset=2, minutes=2), stays, letter(offset=3, minutes=3), letter(offset=0)]
    actions = plan_replay(letters, set(), max_replays=3, force=False, limit=2)
    assert [planned.letter.name.offset for planned in actions] == [0, 0, 2]
    assert [isinstance(planned.action, Skip) for planned in actions] == [False, True, False]


def test_a_new_import_has_the_rows_fields_and_the_same_request_id_each_time() -> None:
    row = row_document(version=2)
    parsed = row_letter(row, partition=3, headers=[("pinflow-replay-count", b"1")])
    first, second = (
        build_import_request(parsed, WORKSPACE, row["row"], now)
        for now in (NOON, NOON + timedelta(days=1))
    )
    request = parse_event(ImportRequested, first.value)
    assert (first.value, first.key, request.workspace_id) == (
        second.value,
        str(WORKSPACE).encode(),
        WORKSPACE,
    )
    assert request.request_id.startswith("dead-letter:imports:3:0:")
    assert dict(first.headers)["pinflow-replay-count"] == b"2"
    (valid,) = validate(require_rows(request.rows)).valid
    assert UUID(valid.fingerprint.decode()) == UUID(row["fingerprint"])
    other = build_import_request(parsed, WORKSPACE, {**row["row"], "title": "Another"}, NOON)
    assert parse_event(ImportRequested, other.value).request_id != request.request_id


@pytest.mark.parametrize(
    ("letter_filter", "taken"),
    [
        (DeadLetterFilter(), True),
        (
            DeadLetterFilter(
                topic=TopicFilter.IMPORTS,
                service=ServiceFilter.PUBLISHER,
                code=CodeFilter.INVALID_RECORD,
                job_id=JOB,
                workspace_id=WORKSPACE,
            ),
            True,
        ),
        (DeadLetterFilter(topic=TopicFilter.OUTCOMES), False),
        (DeadLetterFilter(service=ServiceFilter.STATUS), False),
        (DeadLetterFilter(code=CodeFilter.RECORD_REFUSED), False),
        (DeadLetterFilter(job_id=WORKSPACE), False),
        (DeadLetterFilter(workspace_id=JOB), False),
        (DeadLetterFilter(since=NOON), True),
        (DeadLetterFilter(since=NOON + timedelta(seconds=1)), False),
        (DeadLetterFilter(names=frozenset({DeadLetterName(0, 0)})), True),
        (DeadLetterFilter(names=frozenset({DeadLetterName(0, 1)})), False),
    ],
)
def test_a_dead_letter_must_pass_every_filter(letter_filter: DeadLetterFilter, taken: bool) -> None:
    assert letter_filter.matches(row_letter(row_document())) is taken


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90s", NOON - timedelta(seconds=90)),
        ("7d", NOON - timedelta(days=7)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T13:00+01:00", NOON),
    ],
)
def test_since_is_a_time_or_a_duration(text: str, time: datetime) -> None:
    assert parse_since(text, NOON) == time


@pytest.mark.parametrize("text", ["yesterday", "5", "-1h", "5w", "2026-13-01", ""])
def test_any_other_text_for_since_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        parse_since(text, NOON)


def test_a_histogram_counts_by_error_largest_first_with_the_latest_message() -> None:
    letters = [letter(minutes=minute, reason={"message": f"at {minute}"}) for minute in (2, 1)]
    letters.append(
        letter(
            topic=NAMES[TopicName.OUTCOMES],
            reason={"service": "status", "code": ErrorCode.RECORD_REFUSED},
        )
    )
    first, second = build_histogram(letters)
    assert (first["letters"], first["topic"], first["code"], first["message"]) == (
        2,
        "imports",
        "invalid_record",
        "at 2",
    )
    assert first["last"] - first["first"] == timedelta(minutes=1)
    assert (second["letters"], second["service"]) == (1, "status")


@pytest.mark.parametrize(
    "text", ["", "1", "1:", ":1", "1:2:3", "a:1", "-1:2", "1:-2", "99999999999:1", "١:٢x"]
)
def test_a_text_that_is_not_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="partition:offset"):
        DeadLetterName.from_text(text)
    assert str(DeadLetterName.from_text("2:17")) == "2:17"


def test_bytes_are_shown_as_text_or_hexadecimal_with_control_characters_escaped() -> None:
    assert format_value(b'{"a":\n1}\x1b[2J') == '{"a":\n1}\\u001b[2J'
    assert format_value(b"\xff\x00") == "ff00"
    assert format_value(b"") == "(no value)"
    assert len(format_value(b"x" * 2 * MAX_SHOWN_BYTES)) == MAX_SHOWN_BYTES
    assert len(format_value("é".encode() * MAX_SHOWN_BYTES).encode()) == MAX_SHOWN_BYTES
