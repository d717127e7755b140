"""Judges whether an equal-work peer is exact: its tables agree, and every event was announced.

Judges also after kills, once all accepted imports have settled and the outbox is empty.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import LiteralString
from uuid import UUID

import msgspec

from shared.contract.events import ImportCompleted
from shared.contract.topics import TopicName
from tests.support.kafka import stream_records
from tests.tools.bench.peers.equal_work.tables import TABLES
from tests.tools.bench.peers.peer import TOPIC_PREFIX, PeerServers
from tests.tools.bench.peers.store import Store

TABLE_FAULTS: Mapping[LiteralString, LiteralString] = {
    "jobs have not settled": "select count(*) from jobs where settled_at is null",
    "imports wait in the outbox": "select count(*) from outbox",
    "keys have more than one pin": """
        select count(*) from (select from pins group by idempotency_key having count(*) > 1) as k
    """,
    "jobs do not have exactly one result for each row": """
        select count(*) from jobs j left join (
            select job_id, count(*) as results, count(distinct row_number) as numbers,
                min(row_number) as first, max(row_number) as last
            from row_results group by job_id
        ) r using (job_id)
        where (r.results, r.numbers, r.first, r.last) is distinct from
            (j.total::bigint, j.total::bigint, 1, j.total)
    """,
    "jobs have counters that differ from their results": """
        select count(*) from jobs j left join (
            select job_id, count(*) filter (where status = 'created') as created,
                count(*) filter (where status = 'existing') as existing,
                count(*) filter (where status = 'failed') as failed
            from row_results group by job_id
        ) r using (job_id)
        where (r.created, r.existing, r.failed) is distinct from
            (j.created::bigint, j.existing::bigint, j.failed::bigint)
    """,
    "results have no job": """
        select count(distinct job_id) from row_results where job_id not in (select job_id from jobs)
    """,
    "created results have no pin, or pins no created result": """
        select count(*) from (
            select job_id, row_number, coalesce(pin_id, schedule_id) as id from row_results
            where status = 'created'
        ) r full join pins p on p.origin_job_id = r.job_id and p.origin_row = r.row_number
        where r.id is null or p.pin_id is null or (p.run_at is null and p.pin_id <> r.id)
    """,
}
"""Queries that count what is wrong, by the sentence that says so. Each counts 0 if all is right."""

READ_SECONDS = 300
"""Deadline for reading all pin events: a long run announces millions."""
JobCounters = tuple[int, int, int, int]
"""Total, created, existing and failed rows."""


class EqualWorkStore(Store):
    """The tables of an equal-work peer, as the benchmark and the tests read them."""

    tables = TABLES

    def __init__(self, servers: PeerServers, schema: str) -> None:
        super().__init__(servers.database_url, schema)
        self._kafka = servers.kafka_bootstrap_servers

    def count_settled_rows(self) -> int:
        """Counts the rows of settled jobs whose events were announced."""
        return self.read_number(
            "select (select coalesce(sum(total), 0) from jobs where settled_at is not null)"
            " - (select coalesce(sum(rows), 0) from outbox)"
        )

    def count_waiting_imports(self) -> int:
        """Counts the imports whose events were not announced."""
        return self.read_number("select count(*) from outbox")

    def count_created_rows(self) -> int:
        return self.read_number("select coalesce(sum(created), 0) from jobs")

    def find_faults(self, sent: Mapping[str, int]) -> list[str]:
        return [*super().find_faults(sent), *self.find_inconsistencies()]

    def find_inconsistencies(self) -> list[str]:
        """Describes what disagrees among the tables, and between them and Kafka."""
        jobs = self.read_jobs()
        return [
            *self._find_table_faults(),
            *find_event_faults(
                self._read_event_ids(),
                asyncio.run(self._read_announced_ids()),
                jobs,
                asyncio.run(self._read_announced_jobs()),
            ),
        ]

    def read_jobs(self) -> dict[UUID, JobCounters]:
        """Reads the counters of all jobs."""
        query = "select job_id, total, created, existing, failed from jobs"
        return {
            job_id: (total, created, existing, failed)
            for job_id, total, created, existing, failed in self.connection.execute(query)
        }

    def _find_table_faults(self) -> list[str]:
        counts = {fault: self.read_number(query) for fault, query in TABLE_FAULTS.items()}
        return [f"{count} {fault}" for fault, count in counts.items() if count]

    def _read_event_ids(self) -> set[str]:
        query = """
            select pin_id || case when run_at is null then ':published' else ':scheduled' end
            from pins
        """
        return {event_id for (event_id,) in self.connection.execute(query)}

    async def _read_announced_ids(self) -> set[str]:
        records = stream_records(
            self._kafka, TOPIC_PREFIX, TopicName.PIN_EVENTS, seconds=READ_SECONDS
        )
        return {dict(record.headers)["ce_id"].decode() async for record in records}

    async def _read_announced_jobs(self) -> list[tuple[UUID, JobCounters]]:
        records = stream_records(self._kafka, TOPIC_PREFIX, TopicName.JOB_EVENTS)
        events = [_decode_job(record.value or b"") async for record in records]
        return [
            (
                event.job_id,
                (event.total_rows, event.created_rows, event.existing_rows, event.failed_rows),
            )
            for event in events
        ]


_decode_job = msgspec.json.Decoder(ImportCompleted).decode


def find_event_faults(
    expected: Collection[str],
    announced: Collection[str],
    jobs: Mapping[UUID, JobCounters],
    announced_jobs: Iterable[tuple[UUID, JobCounters]],
) -> list[str]:
    """Compares pins and jobs with their events. An event may be announced more than once.

    `expected` and `announced` are ids of pin events.
    """
    expected, announced, announced_jobs = set(expected), set(announced), list(announced_jobs)
    silent_jobs = jobs.keys() - {job_id for job_id, _ in announced_jobs}
    wrong = [job_id for job_id, counters in announced_jobs if jobs.get(job_id) != counters]
    counts = {
        "pins were not announced": len(expected - announced),
        "announced pins do not exist": len(announced - expected),
        "jobs were not announced": len(silent_jobs),
        "events of jobs differ from their job": len(wrong),
    }
    return [f"{count} {fault}" for fault, count in counts.items() if count]


def find_lost_imports(accepted: Mapping[UUID, int], jobs: Mapping[UUID, JobCounters]) -> list[str]:
    """Compares accepted imports with jobs. `accepted` are numbers of rows by job id."""
    lost = [job_id for job_id in accepted if job_id not in jobs]
    other = [
        job_id for job_id, total in accepted.items() if job_id in jobs and jobs[job_id][0] != total
    ]
    counts = {"accepted imports were lost": len(lost), "jobs have another total": len(other)}
    return [f"{count} {fault}" for fault, count in counts.items() if count]
