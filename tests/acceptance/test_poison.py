"""Writes poison records to a running Pinflow, and replays their dead letters.

No job hangs, no partition is blocked, and no record is lost.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
import yaml
from aiokafka import AIOKafkaProducer
from prometheus_client import Counter, Gauge

from deploy.administration import NewWorkspace
from deploy.cli.dead_letters.model import MAX_REPLAYS
from deploy.cli.exit_codes import ExitCode
from deploy.local.layout import CHECKOUT
from deploy.services import SERVICES
from services.ingest.ids import new_job_id
from shared.contract.events import MAX_KEY_LENGTH, MAX_ROWS, ImportAccepted, RecordKind
from shared.contract.import_limits import MEBIBYTE
from shared.contract.import_records import is_for_status, kind_prefix
from shared.contract.topics import TopicName
from shared.contract.wire import encode
from shared.kafka.records import Record
from shared.runtime import metrics
from tests.acceptance.rows import rows_for, submit_until_accepted
from tests.support.dead_letters import Operator, to_compact_json
from tests.support.deployment import Deployment, wait_for_job
from tests.support.events import event_document
from tests.support.factories import import_accepted, row_accepted
from tests.support.services import WITH_KAFKA
from tests.support.waiting import wait_until

HUGE_NUMBER = 2**40


@pytest.fixture(scope="module")
def operator(kafka: str, pinflow: Deployment) -> Operator:
    return Operator(kafka, pinflow.topic_prefix, pinflow.database_url)


class Job:
    """An import whose records a test writes, as a broken or newer ingest might."""

    def __init__(self, operator: Operator, workspace: NewWorkspace, total: int) -> None:
        self._operator = operator
        self._workspace = workspace
        accepted_at = row_accepted().accepted_at
        self.accepted: ImportAccepted = import_accepted(
            job_id=new_job_id(accepted_at), workspace_id=workspace.id, total_rows=total
        )

    def row(self, number: int, **fields: Any) -> dict[str, Any]:
        account = self._workspace.accounts[0]
        fields_of_pin: dict[str, Any] = {
            "account_id": str(account.id),
            "board_id": account.boards[0],
            "idempotency_key": f"{self.id}-{number}",
        }
        row = row_accepted(
            job_id=self.accepted.job_id,
            workspace_id=self._workspace.id,
            row_number=number,
            **fields_of_pin,
        )
        return {**event_document(row), **fields}

    @property
    def id(self) -> str:
        return str(self.accepted.job_id)

    def write_import(self, *rows: Mapping[str, Any]) -> None:
        values = [encode(self.accepted), *map(to_compact_json, rows)]
        self._operator.write_records(
            TopicName.IMPORTS, *(Record(self.id.encode(), value) for value in values)
        )


def wait_until_ended(client: httpx.Client, job: Job) -> dict[str, Any]:
    """Waits until the job exists and has ended. Status may not have folded it yet."""
    wait_until(lambda: client.get(f"/v1/pins/imports/{job.id}").is_success)
    return wait_for_job(client, job.id)


def summarize_results(job: Mapping[str, Any]) -> list[tuple[int, str, str | None]]:
    return [
        (result["row_number"], result["status"], result["error_code"]) for result in job["results"]
    ]


def list_dead_letters(operator: Operator, *filters: str) -> list[dict[str, Any]]:
    dead_letters: list[dict[str, Any]] = operator.run_json(
        "list", "--oldest", "--limit", "10000", *filters
    )
    return dead_letters


def test_invariant_8_a_row_that_postgres_refuses_fails_alone_and_its_job_ends(
    client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    job = Job(operator, workspace, total=5)
    rows = [job.row(number) for number in range(1, 6)]
    rows[2]["row"]["title"] = "a\0b"
    job.write_import(*rows)
    ended = wait_until_ended(client, job)
    assert ended["status"] == "completed_with_errors"
    created = [(number, "created", None) for number in (1, 2, 4, 5)]
    assert summarize_results(ended) == sorted([*created, (3, "failed", "internal_error")])
    wait_until(lambda: list_dead_letters(operator, "--job", job.id))
    (dead_letter,) = list_dead_letters(operator, "--job", job.id)
    assert (dead_letter["topic"], dead_letter["code"], dead_letter["row_number"]) == (
        "imports",
        "record_refused",
        3,
    )


def test_invariant_8_a_row_of_a_newer_version_is_replayed_as_a_new_import(
    client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    job = Job(operator, workspace, total=2)
    job.write_import(job.row(1), job.row(2, version=2, something="new"))
    ended = wait_until_ended(client, job)
    assert summarize_results(ended) == [(1, "created", None), (2, "failed", "internal_error")]
    wait_until(lambda: list_dead_letters(operator, "--job", job.id))
    result = operator.run("show", list_dead_letters(operator, "--job", job.id)[0]["name"])
    assert '"something":"new"' in result.output
    assert operator.run_json("replay", "--job", job.id, "--dry-run")["counts"] == {
        "as a new import": 1
    }
    done = operator.run("replay", "--job", job.id, "--yes")
    assert (done.exit_code, "as a new import" in done.output) == (ExitCode.DONE, True), done.output

    def new_job() -> Any:
        jobs = client.get("/v1/pins/imports").json()
        return next(
            (
                candidate
                for candidate in jobs
                if candidate["id"] != job.id and candidate["completed_at"]
            ),
            None,
        )

    wait_until(new_job)
    replayed = client.get(f"/v1/pins/imports/{new_job()['id']}").json()
    assert summarize_results(replayed) == [(1, "created", None)]
    assert replayed["results"][0]["idempotency_key"] == f"{job.id}-2"
    assert replayed["source_filename"] == f"dead letter of job {job.id}, row 2"
    # The first job stays unchanged
    assert summarize_results(wait_until_ended(client, job)) == summarize_results(ended)
    assert list_dead_letters(operator, "--job", job.id) == []


def build_unexpected_imports(job: Job) -> list[bytes]:
    """Builds invalid values of every kind for the topic `imports`."""
    accepted = event_document(job.accepted)
    owner = {"job_id": job.id, "workspace_id": accepted["workspace_id"]}
    upload = {"kind": "u", "version": 1, **owner, "format": "csv", "encoding": "zstd", "size": 1}
    documents: list[dict[str, Any]] = [
        {**accepted, "version": 2},
        {**accepted, "type": "import_undone"},
        {**accepted, "total_rows": HUGE_NUMBER},
        {**accepted, "accepted_at": "0001-01-01T00:00:00+14:00"},
        {**accepted, "source_filename": "a\0b"},
        {**accepted, "source_filename": "\ud800"},
        *build_unexpected_results(job),
        {**upload, "version": 2},
        {**upload, "format": "pdf"},
        {**upload, "size": -1},
        job.row(1, version=2),
        job.row(1, row_number=HUGE_NUMBER),
        job.row(2, accepted_at="9999-12-31T23:59:59-14:00"),
        job.row(3, row={}),
        job.row(4, row="a\0b"),
        # Its outcome would have the id twice and be larger than the topic allows
        job.row(5, row={**job.row(5)["row"], "board_id": "b" * 600_000}),
        {"kind": "x", "version": 1, **owner},
        {"kind": "", **owner},
        {**owner, "version": 1},
    ]
    spaced = json.dumps(accepted).encode()  # its first bytes match no kind
    return [
        *(to_compact_json(document) for document in documents),
        spaced,
        *(kind_prefix(kind) for kind in RecordKind),
    ]


def build_unexpected_results(job: Job) -> list[dict[str, Any]]:
    result = {"row_number": 1, "status": "created"}
    workspace_id = str(job.accepted.workspace_id)
    settled = {
        "kind": "s",
        "version": 1,
        "job_id": job.id,
        "workspace_id": workspace_id,
        "results": [result],
    }
    return [
        {**settled, "version": 2},
        {**settled, "results": [{**result, "row_number": HUGE_NUMBER}]},
        {**settled, "results": [{**result, "row_number": 0}]},
        {**settled, "results": [{**result, "status": "undone"}]},
        {**settled, "results": [{**result, "error_message": "\ud800"}]},
    ]


def build_unexpected_values(
    operator: Operator, workspace: NewWorkspace
) -> dict[TopicName, list[bytes | None]]:
    """Builds unexpected values for each topic. None may block the records after it."""
    job = Job(operator, workspace, total=1)
    request = {"request_id": "r", "workspace_id": str(workspace.id), "rows": []}
    requests = [
        {**request, "workspace_id": str(UUID(int=1))},
        {**request, "request_id": ""},
        [request],
        None,
    ]
    values: dict[TopicName, list[bytes]] = {
        TopicName.IMPORTS: build_unexpected_imports(job),
        TopicName.OUTCOMES: [to_compact_json(result) for result in build_unexpected_results(job)],
        TopicName.PIN_EVENTS: [],  # any value is poison, because the key names no workspace
        TopicName.JOB_EVENTS: [],
        TopicName.IMPORT_REQUESTS: [to_compact_json(request) for request in requests],
    }
    return {
        topic: [b"\xff\x00garbage", b"", None, *topic_values]
        for topic, topic_values in values.items()
    }


def test_invariant_8_unexpected_records_on_any_topic_block_no_import(
    pinflow: Deployment, client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    values = build_unexpected_values(operator, workspace)
    request_headers = [("ce_type", b"pinflow.import.requested.v1")]
    written = {
        topic: [build_record(value, request_headers) for value in topic_values]
        for topic, topic_values in values.items()
    }
    written[TopicName.IMPORT_REQUESTS].append(
        Record(b"strange", b"{}", [("ce_type", b"pinflow.import.requested.v2")])
    )
    before = {topic: len(list_dead_letters(operator, "--topic", topic)) for topic in written}
    # Without a webhook the webhooks service would not consume its topics
    webhook = {
        "url": "https://receiver.example/hooks",
        "secret": "s" * 32,
        "events": ["import.failed"],
    }
    assert client.post("/v1/webhooks", json=webhook).status_code == 201
    for topic, records in written.items():
        operator.write_records(topic, *records)

    def count_new_dead_letters() -> dict[TopicName, int]:
        return {
            topic: len(list_dead_letters(operator, "--topic", topic)) - before[topic]
            for topic in written
        }

    expected = {topic: len(records) for topic, records in written.items()}
    wait_until(lambda: count_new_dead_letters() == expected, seconds=90)  # a count takes seconds
    for number in range(6):
        job = wait_for_job(
            client,
            submit_until_accepted(client, rows_for(workspace, 20, prefix=f"beside-{number}")),
        )
        assert (job["status"], job["created_rows"]) == ("completed", 20)
    assert count_new_dead_letters() == expected  # one dead letter per record, not one per consumer


def build_record(value: bytes | None, headers: list[tuple[str, bytes]]) -> Record:
    return Record(b"strange", cast("bytes", value), headers)


@pytest.mark.parametrize(
    ("value", "service"),
    [
        pytest.param(b"\xff\x00garbage", "publisher", id="garbage"),
        pytest.param(None, "publisher", id="no value"),
        pytest.param(b'{"kind":"x","version":1}', "publisher", id="unknown kind"),
        pytest.param(kind_prefix(RecordKind.ROW), "publisher", id="row"),
        pytest.param(kind_prefix(RecordKind.IMPORT) + b',"version":2}', "status", id="import"),
        pytest.param(kind_prefix(RecordKind.RESULTS) + b',"version":2}', "status", id="results"),
        pytest.param(
            kind_prefix(RecordKind.UPLOAD) + b',"version":2}\n\xff', "status", id="upload"
        ),
    ],
)
def test_invariant_8_an_unexpected_import_record_becomes_one_dead_letter_of_its_consumer(
    client: httpx.Client,
    workspace: NewWorkspace,
    operator: Operator,
    value: bytes | None,
    service: str,
) -> None:
    job = Job(operator, workspace, total=1)
    operator.write_records(TopicName.IMPORTS, Record(job.id.encode(), cast("bytes", value)))
    job.write_import(job.row(1))
    assert is_for_status(value) == (service == "status")
    # On the same partition, so both consumers have passed the unexpected record
    assert summarize_results(wait_until_ended(client, job)) == [(1, "created", None)]
    wait_until(lambda: list_dead_letters(operator, "--job", job.id))
    (dead_letter,) = list_dead_letters(operator, "--job", job.id)
    assert (dead_letter["service"], dead_letter["topic"], dead_letter["code"]) == (
        service,
        "imports",
        "invalid_record",
    )


def test_invariant_8_an_outcome_of_a_missing_row_blocks_nothing(
    client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    job = Job(operator, workspace, total=1)
    job.write_import(job.row(1))
    assert wait_until_ended(client, job)["status"] == "completed"
    operator.write_records(
        TopicName.IMPORTS, Record(job.id.encode(), to_compact_json(job.row(400)))
    )
    wait_until(lambda: list_dead_letters(operator, "--topic", "outcomes", "--job", job.id))
    assert summarize_results(wait_until_ended(client, job)) == [(1, "created", None)]


def test_invariant_8_an_oversized_value_is_truncated_and_blocks_nothing(
    client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    """The services' topics accept a large value that is small when it is compressed."""
    publishers, of_status = (
        (TopicName.IMPORTS, b""),
        (TopicName.IMPORTS, kind_prefix(RecordKind.IMPORT)),
    )
    large = [publishers, of_status, (TopicName.OUTCOMES, b"")]

    async def send() -> None:
        servers, headers = operator.settings.kafka_bootstrap_servers, [("h", bytes(16 * MEBIBYTE))]
        async with AIOKafkaProducer(
            bootstrap_servers=servers, max_request_size=64 * MEBIBYTE, compression_type="lz4"
        ) as producer:
            for topic, beginning in large:
                await producer.send_and_wait(
                    operator.names[topic], beginning + bytes(16 * MEBIBYTE), key=b"large"
                )
                await producer.send_and_wait(
                    operator.names[topic],
                    beginning + b"large headers",
                    key=b"large",
                    headers=headers,
                )

    asyncio.run(send())
    job = wait_for_job(
        client, submit_until_accepted(client, rows_for(workspace, 60, prefix="beside-large"))
    )
    assert job["status"] == "completed"

    def are_truncated() -> bool:
        reasons = [
            dead_letter["stays"]
            for dead_letter in operator.run_json("replay", "--dry-run")["letters"]
        ]
        return reasons.count("cut") == 2 * len(large)

    wait_until(are_truncated, seconds=90)


def test_invariant_8_the_longest_allowed_rows_block_nothing(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    """With four bytes per character, the outcomes exceed the topic's limit for one record."""
    rows = rows_for(workspace, MAX_ROWS, prefix="long", board_id="\U0001f4a1" * MAX_KEY_LENGTH)
    for number, row in enumerate(rows):
        row["idempotency_key"] = f"{number:\U0001f4a1>{MAX_KEY_LENGTH}}"
    job = wait_for_job(client, submit_until_accepted(client, rows))
    assert (
        sum(len(json.dumps(result, ensure_ascii=False).encode()) for result in job["results"])
        > MEBIBYTE
    )
    assert summarize_results(job) == [
        (number, "failed", "board_not_found") for number in range(1, MAX_ROWS + 1)
    ]


def test_a_replay_that_fails_again_is_counted_until_the_record_is_quarantined(
    operator: Operator, pinflow: Deployment
) -> None:
    operator.write_records(
        TopicName.IMPORT_REQUESTS, Record(b"again", b"{}", [("ce_type", b"poison-again")])
    )

    def find_waiting(replays: int) -> list[str]:
        waiting = list_dead_letters(operator, "--topic", "import-requests")
        return [
            dead_letter["name"]
            for dead_letter in waiting
            if "poison-again" in dead_letter["message"] and dead_letter["replays"] == replays
        ]

    for replays in range(MAX_REPLAYS + 1):
        wait_until(partial(find_waiting, replays))
        done = operator.run("replay", *find_waiting(replays), "--yes")
        assert done.exit_code == (ExitCode.DONE if replays < MAX_REPLAYS else ExitCode.REFUSED), (
            done.output
        )
    assert "quarantined" in done.output


DEFINED_LABELS = {
    metric._name + ("_total" if isinstance(metric, Counter) else ""): set(metric._labelnames)
    for metric in vars(metrics).values()
    if isinstance(metric, Counter | Gauge)
}
"""The labels of each counter and gauge.

A metric with labels has no sample before its first event.
"""


def test_alerts_use_only_metrics_that_the_services_expose(pinflow: Deployment) -> None:
    exposed = [
        httpx.get(f"{pinflow.service_url(name)}/metrics", timeout=40, trust_env=False).text
        for name in SERVICES
    ]
    rules = [
        rule
        for group in yaml.safe_load((CHECKOUT / "deploy/monitoring/alerts.yml").read_text())[
            "groups"
        ]
        for rule in group["rules"]
    ]
    assert {"PinflowConsumerHalted", "PinflowDeadLetters", "PinflowPositionRefused"} <= {
        rule["alert"] for rule in rules
    }
    for rule in rules:
        labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))) - {"instance"}
        for metric in re.findall(r"\b(?:pinflow|process)_\w+", rule["expr"]):
            assert any(
                re.search(rf"^(# TYPE )?{metric}[{{ ]", text, re.MULTILINE) for text in exposed
            ), metric
            assert labels <= DEFINED_LABELS.get(metric, labels), rule["alert"]
        samples = [
            line
            for text in exposed
            for line in text.splitlines()
            if line.startswith(tuple(re.findall(r"pinflow_\w+", rule["expr"])))
        ]
        assert all(f'{label}="' in sample for label in labels for sample in samples), rule["alert"]


@pytest.mark.parametrize("service", WITH_KAFKA)
def test_dead_letters_are_counted_by_the_service_that_wrote_them(
    pinflow: Deployment, service: str
) -> None:
    url = f"{pinflow.service_url(service)}/metrics"
    text = httpx.get(url, timeout=40, trust_env=False).text
    counts = re.findall(
        r'^pinflow_dead_letters_total{code="invalid_record",service="(\w+)",topic="[^"]+"} (\S+)$',
        text,
        re.MULTILINE,
    )
    assert {name for name, _ in counts} == {service}
    assert all(float(count) > 0 for _, count in counts)
