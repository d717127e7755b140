"""Poison in a running Pinflow: no job hangs, no partition stands still, nothing vanishes; and what
an operator makes of it.
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

FAR = 2**40


@pytest.fixture(scope="module")
def operator(kafka: str, pinflow: Deployment) -> Operator:
    return Operator(kafka, pinflow.topic_prefix, pinflow.database_url)


class Job:
    """An import written by hand, as a broken or newer ingest would."""

    def __init__(self, operator: Operator, workspace: NewWorkspace, total: int) -> None:
        self._operator = operator
        self._workspace = workspace
        accepted_at = row_accepted().accepted_at
        self.accepted: ImportAccepted = import_accepted(
            job_id=new_job_id(accepted_at), workspace_id=workspace.id, total_rows=total
        )

    def row(self, number: int, **fields: Any) -> dict[str, Any]:
        account = self._workspace.accounts[0]
        about: dict[str, Any] = {
            "account_id": str(account.id),
            "board_id": account.boards[0],
            "idempotency_key": f"{self.id}-{number}",
        }
        row = row_accepted(
            job_id=self.accepted.job_id, workspace_id=self._workspace.id, row_number=number, **about
        )
        return {**event_document(row), **fields}

    @property
    def id(self) -> str:
        return str(self.accepted.job_id)

    def write(self, *rows: Mapping[str, Any]) -> None:
        values = [encode(self.accepted), *map(to_compact_json, rows)]
        self._operator.write_records(
            TopicName.IMPORTS, *(Record(self.id.encode(), value) for value in values)
        )


def ended_job(client: httpx.Client, job: Job) -> dict[str, Any]:
    """Nobody was told 202: it may not be there yet."""
    wait_until(lambda: client.get(f"/v1/pins/imports/{job.id}").is_success)
    return wait_for_job(client, job.id)


def told(job: Mapping[str, Any]) -> list[tuple[int, str, str | None]]:
    return [
        (result["row_number"], result["status"], result["error_code"]) for result in job["results"]
    ]


def letters(operator: Operator, *filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = operator.run_json(
        "list", "--oldest", "--limit", "10000", *filters
    )
    return found


def test_invariant_8_a_row_that_postgres_refuses_fails_alone_and_its_job_ends(
    client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    job = Job(operator, workspace, total=5)
    rows = [job.row(number) for number in range(1, 6)]
    rows[2]["row"]["title"] = "a\0b"
    job.write(*rows)
    ended = ended_job(client, job)
    assert ended["status"] == "completed_with_errors"
    created = [(number, "created", None) for number in (1, 2, 4, 5)]
    assert told(ended) == sorted([*created, (3, "failed", "internal_error")])
    wait_until(lambda: letters(operator, "--job", job.id))
    (letter,) = letters(operator, "--job", job.id)
    assert (letter["topic"], letter["code"], letter["row_number"]) == (
        "imports",
        "record_refused",
        3,
    )


def test_invariant_8_a_row_of_a_newer_version_is_replayed_as_a_new_import(
    client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    job = Job(operator, workspace, total=2)
    job.write(job.row(1), job.row(2, version=2, something="new"))
    ended = ended_job(client, job)
    assert told(ended) == [(1, "created", None), (2, "failed", "internal_error")]
    wait_until(lambda: letters(operator, "--job", job.id))
    shown = operator.run("show", letters(operator, "--job", job.id)[0]["name"])
    assert '"something":"new"' in shown.output
    assert operator.run_json("replay", "--job", job.id, "--dry-run")["counts"] == {
        "as a new import": 1
    }
    done = operator.run("replay", "--job", job.id, "--yes")
    assert (done.exit_code, "as a new import" in done.output) == (ExitCode.DONE, True), done.output

    def new_job() -> Any:
        jobs = client.get("/v1/pins/imports").json()
        return next((one for one in jobs if one["id"] != job.id and one["completed_at"]), None)

    wait_until(new_job)
    replayed = client.get(f"/v1/pins/imports/{new_job()['id']}").json()
    assert told(replayed) == [(1, "created", None)]
    assert replayed["results"][0]["idempotency_key"] == f"{job.id}-2"
    assert replayed["source_filename"] == f"dead letter of job {job.id}, row 2"
    assert told(ended_job(client, job)) == told(ended)  # settled for ever
    assert letters(operator, "--job", job.id) == []


def strange_imports(job: Job) -> list[bytes]:
    """Makes values for the topic `imports` that nobody should write there, of every kind."""
    accepted = event_document(job.accepted)
    owner = {"job_id": job.id, "workspace_id": accepted["workspace_id"]}
    upload = {"kind": "u", "version": 1, **owner, "format": "csv", "encoding": "zstd", "size": 1}
    documents: list[dict[str, Any]] = [
        {**accepted, "version": 2},
        {**accepted, "type": "import_undone"},
        {**accepted, "total_rows": FAR},
        {**accepted, "accepted_at": "0001-01-01T00:00:00+14:00"},
        {**accepted, "source_filename": "a\0b"},
        {**accepted, "source_filename": "\ud800"},
        *strange_results(job),
        {**upload, "version": 2},
        {**upload, "format": "pdf"},
        {**upload, "size": -1},
        job.row(1, version=2),
        job.row(1, row_number=FAR),
        job.row(2, accepted_at="9999-12-31T23:59:59-14:00"),
        job.row(3, row={}),
        job.row(4, row="a\0b"),
        # Its outcome would name it twice: more than its topic takes
        job.row(5, row={**job.row(5)["row"], "board_id": "b" * 600_000}),
        {"kind": "x", "version": 1, **owner},
        {"kind": "", **owner},
        {**owner, "version": 1},
    ]
    spaced = json.dumps(accepted).encode()  # its first bytes are of no known kind
    return [
        *(to_compact_json(one) for one in documents),
        spaced,
        *(kind_prefix(kind) for kind in RecordKind),
    ]


def strange_results(job: Job) -> list[dict[str, Any]]:
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
        {**settled, "results": [{**result, "row_number": FAR}]},
        {**settled, "results": [{**result, "row_number": 0}]},
        {**settled, "results": [{**result, "status": "undone"}]},
        {**settled, "results": [{**result, "error_message": "\ud800"}]},
    ]


def strange(operator: Operator, workspace: NewWorkspace) -> dict[TopicName, list[bytes | None]]:
    """Makes values for each topic, none of which may hold up those behind it."""
    job = Job(operator, workspace, total=1)
    request = {"request_id": "r", "workspace_id": str(workspace.id), "rows": []}
    requests = [
        {**request, "workspace_id": str(UUID(int=1))},
        {**request, "request_id": ""},
        [request],
        None,
    ]
    values: dict[TopicName, list[bytes]] = {
        TopicName.IMPORTS: strange_imports(job),
        TopicName.OUTCOMES: [to_compact_json(one) for one in strange_results(job)],
        TopicName.PIN_EVENTS: [],  # of no workspace: its key names none
        TopicName.JOB_EVENTS: [],
        TopicName.IMPORT_REQUESTS: [to_compact_json(one) for one in requests],
    }
    return {topic: [b"\xff\x00garbage", b"", None, *of_topic] for topic, of_topic in values.items()}


def test_invariant_8_nothing_strange_on_any_topic_holds_up_an_import(
    pinflow: Deployment, client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    values = strange(operator, workspace)
    request_headers = [("ce_type", b"pinflow.import.requested.v1")]
    written = {
        topic: [record_of(value, request_headers) for value in of_topic]
        for topic, of_topic in values.items()
    }
    written[TopicName.IMPORT_REQUESTS].append(
        Record(b"strange", b"{}", [("ce_type", b"pinflow.import.requested.v2")])
    )
    before = {topic: len(letters(operator, "--topic", topic)) for topic in written}
    # Without any webhook nobody would read what the webhooks service reads
    webhook = {
        "url": "https://receiver.example/hooks",
        "secret": "s" * 32,
        "events": ["import.failed"],
    }
    assert client.post("/v1/webhooks", json=webhook).status_code == 201
    for topic, records in written.items():
        operator.write_records(topic, *records)

    def given_up_since() -> dict[TopicName, int]:
        return {
            topic: len(letters(operator, "--topic", topic)) - before[topic] for topic in written
        }

    wanted = {topic: len(records) for topic, records in written.items()}
    wait_until(lambda: given_up_since() == wanted)
    for number in range(6):
        job = wait_for_job(
            client,
            submit_until_accepted(client, rows_for(workspace, 20, prefix=f"beside-{number}")),
        )
        assert (job["status"], job["created_rows"]) == ("completed", 20)
    assert given_up_since() == wanted  # one dead letter each, not one of each reader


def record_of(value: bytes | None, headers: list[tuple[str, bytes]]) -> Record:
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
def test_invariant_8_a_strange_record_of_imports_is_given_up_once_by_its_owner(
    client: httpx.Client,
    workspace: NewWorkspace,
    operator: Operator,
    value: bytes | None,
    service: str,
) -> None:
    job = Job(operator, workspace, total=1)
    operator.write_records(TopicName.IMPORTS, Record(job.id.encode(), cast("bytes", value)))
    job.write(job.row(1))
    assert is_for_status(value) == (service == "status")
    # of the same partition, so both have passed it
    assert told(ended_job(client, job)) == [(1, "created", None)]
    wait_until(lambda: letters(operator, "--job", job.id))
    (letter,) = letters(operator, "--job", job.id)
    assert (letter["service"], letter["topic"], letter["code"]) == (
        service,
        "imports",
        "invalid_record",
    )


def test_invariant_8_an_outcome_of_a_row_that_its_job_has_not_holds_up_nobody(
    client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    job = Job(operator, workspace, total=1)
    job.write(job.row(1))
    assert ended_job(client, job)["status"] == "completed"
    operator.write_records(
        TopicName.IMPORTS, Record(job.id.encode(), to_compact_json(job.row(400)))
    )
    wait_until(lambda: letters(operator, "--topic", "outcomes", "--job", job.id))
    assert told(ended_job(client, job)) == [(1, "created", None)]


def test_invariant_8_an_oversized_value_is_kept_in_part_and_holds_up_nobody(
    client: httpx.Client, workspace: NewWorkspace, operator: Operator
) -> None:
    """A topic that only services write to takes what was small while it was compressed."""
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

    def kept_in_part() -> bool:
        stay = [one["stays"] for one in operator.run_json("replay", "--dry-run")["letters"]]
        return stay.count("cut") == 2 * len(large)

    wait_until(kept_in_part)


def test_invariant_8_the_longest_rows_that_a_client_may_send_hold_up_nobody(
    client: httpx.Client, workspace: NewWorkspace
) -> None:
    """Four bytes a character: together, the outcomes of so many unknown boards are more than their
    topic takes.
    """
    rows = rows_for(workspace, MAX_ROWS, prefix="long", board_id="\U0001f4a1" * MAX_KEY_LENGTH)
    for number, row in enumerate(rows):
        row["idempotency_key"] = f"{number:\U0001f4a1>{MAX_KEY_LENGTH}}"
    job = wait_for_job(client, submit_until_accepted(client, rows))
    assert (
        sum(len(json.dumps(one, ensure_ascii=False).encode()) for one in job["results"]) > MEBIBYTE
    )
    assert told(job) == [(number, "failed", "board_not_found") for number in range(1, MAX_ROWS + 1)]


def test_what_is_poison_again_comes_back_with_its_count_until_it_stays(
    operator: Operator, pinflow: Deployment
) -> None:
    operator.write_records(
        TopicName.IMPORT_REQUESTS, Record(b"again", b"{}", [("ce_type", b"poison-again")])
    )

    def come_back(replays: int) -> list[str]:
        waiting = letters(operator, "--topic", "import-requests")
        return [
            letter["name"]
            for letter in waiting
            if "poison-again" in letter["message"] and letter["replays"] == replays
        ]

    for replays in range(MAX_REPLAYS + 1):
        wait_until(partial(come_back, replays))
        done = operator.run("replay", *come_back(replays), "--yes")
        assert done.exit_code == (ExitCode.DONE if replays < MAX_REPLAYS else ExitCode.REFUSED), (
            done.output
        )
    assert "quarantined" in done.output


DEFINED = {
    one._name + ("_total" if isinstance(one, Counter) else ""): set(one._labelnames)
    for one in vars(metrics).values()
    if isinstance(one, Counter | Gauge)
}
"""The labels of each counter and gauge: of what has labels and never happened there is no sample.
"""


def test_alerts_name_only_what_the_services_expose(pinflow: Deployment) -> None:
    exposed = [
        httpx.get(f"{pinflow.service_url(name)}/metrics", trust_env=False).text for name in SERVICES
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
            assert labels <= DEFINED.get(metric, labels), rule["alert"]
        samples = [
            line
            for text in exposed
            for line in text.splitlines()
            if line.startswith(tuple(re.findall(r"pinflow_\w+", rule["expr"])))
        ]
        assert all(f'{label}="' in sample for label in labels for sample in samples), rule["alert"]


@pytest.mark.parametrize("service", WITH_KAFKA)
def test_dead_letters_are_counted_where_they_were_given_up(
    pinflow: Deployment, service: str
) -> None:
    text = httpx.get(f"{pinflow.service_url(service)}/metrics", trust_env=False).text
    found = re.findall(
        r'^pinflow_dead_letters_total{code="invalid_record",service="(\w+)",topic="[^"]+"} (\S+)$',
        text,
        re.MULTILINE,
    )
    assert {name for name, _ in found} == {service}
    assert all(float(count) > 0 for _, count in found)
