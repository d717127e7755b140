"""Shows where the system is stuck. Used after a failed run, while the servers are still running.

The most important part comes last, because long output is often cut at its beginning.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import psycopg

from deploy.services import SERVICES
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.lag import LagReader
from shared.runtime.settings import KafkaSettings
from tests.tools.chaos.arena import Arena

READ_BY = (
    (TopicName.IMPORTS, "publisher"),
    (TopicName.IMPORTS, "status"),
    (TopicName.OUTCOMES, "status"),
    (TopicName.PIN_EVENTS, "webhooks"),
    (TopicName.JOB_EVENTS, "webhooks"),
)
SESSIONS = """
    select usename, state, wait_event_type, wait_event, now() - xact_start as open_for,
        left(query, 80)
    from pg_stat_activity
    where usename like 'pinflow\\_%' and (state <> 'idle' or query like '%advisory_lock%')
    order by xact_start
"""
OPEN_JOBS = (
    "select job_id, status, total_rows, created_rows + existing_rows + failed_rows from "
    "status.jobs where completed_at is null limit 10"
)
MAX_LINES = 12


async def build_diagnosis(arena: Arena) -> str:
    """Describes all parts of the system. Never raises: it shows the error of an unreadable part."""
    parts: dict[str, Callable[[Arena], AsyncIterator[str]]] = {
        "logs": _logs,
        "database": _database,
        "topics": _topics,
        "health": _health,
    }
    lines = []
    for title, read in parts.items():
        lines.append(f"== {title}")
        try:
            lines += [line async for line in read(arena)]
        except Exception as error:  # noqa: BLE001 - parts of a broken system may fail in any way
            lines.append(f"unreadable: {error!r}")
    return "\n".join(lines)


async def _health(arena: Arena) -> AsyncIterator[str]:
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        for name in SERVICES:
            yield f"{name}: {await _or_error(_ready(client, arena.deployment.service_url(name)))}"


async def _ready(client: httpx.AsyncClient, url: str) -> str:
    return (await client.get(f"{url}/readyz")).text


async def _or_error(answer: Awaitable[str]) -> str:
    try:
        return await answer
    except httpx.TransportError as error:
        return repr(error)


async def _topics(arena: Arena) -> AsyncIterator[str]:
    """Lists partitions whose committed offset is behind the end: their consumer may be stuck."""
    names = TopicNames(arena.topic_prefix)
    settings = KafkaSettings(kafka_bootstrap_servers=arena.kafka, topic_prefix=arena.topic_prefix)
    for topic, service in READ_BY:
        backlog = LagReader(
            settings, topic=names[topic], group=names.group(service), client_id="diagnosis"
        )
        offsets = await backlog.read()
        await backlog.close()
        for number, end in sorted(offsets.ends.items()):
            if offsets.committed[number] != end:
                yield f"{topic}/{number}: {service} at {offsets.committed[number]}, end {end}"


async def _database(arena: Arena) -> AsyncIterator[str]:
    async with await psycopg.AsyncConnection.connect(arena.database_url) as connection:
        for query in (SESSIONS, OPEN_JOBS):
            async for row in await connection.execute(query.encode()):
                yield " | ".join(str(value) for value in row)


async def _logs(arena: Arena) -> AsyncIterator[str]:
    for name in SERVICES:
        lines = [
            line
            for line in arena.program(name).log.read_text(encoding="utf-8").splitlines()
            if '"event": "request"' not in line
        ]
        for line in lines[-MAX_LINES:]:
            yield _shorten(line)


def _shorten(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return " ".join(
        f"{name}={str(entry[name])[-300:]}"
        for name in sorted(entry, key=lambda name: name != "timestamp")
    )
