"""Measures disk usage: bytes in Kafka, in the write-ahead log, and in tables with indexes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy.services import SERVICES
from tests.tools.bench.figures import Figures

SCHEMAS = tuple(service.schema for service in SERVICES.values())
TABLES = """
    select n.nspname, coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8
    from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'm')
    where n.nspname = any(%s) group by 1
"""


@dataclass(frozen=True)
class DiskUsage:
    """Bytes by topic, bytes written to the WAL since the server's start, and bytes by schema."""

    kafka: dict[str, int]
    wal: int
    tables: dict[str, int]


def measure_disk_usage(
    database_url: str, kafka_data: Path, topic_prefix: str, schemas: Sequence[str] = SCHEMAS
) -> DiskUsage:
    with psycopg.connect(database_url) as connection:
        wal = connection.execute(
            "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8"
        ).fetchone()
        tables = connection.execute(TABLES, [list(schemas)]).fetchall()
    assert wal is not None
    return DiskUsage(_measure_topics(kafka_data, f"{topic_prefix}."), wal[0], dict(tables))


def compute_bytes_per_row(before: DiskUsage, after: DiskUsage, rows: int) -> Figures:
    kafka = {name: (size - before.kafka.get(name, 0)) / rows for name, size in after.kafka.items()}
    tables = {
        name: (size - before.tables.get(name, 0)) / rows for name, size in after.tables.items()
    }
    return {
        "kafka": round(sum(kafka.values())),
        "wal": round((after.wal - before.wal) / rows),
        "tables": round(sum(tables.values())),
        "topics": {name: round(size) for name, size in kafka.items()},
        "schemas": {name: round(size) for name, size in tables.items()},
    }


def _measure_topics(data: Path, prefix: str) -> dict[str, int]:
    """Measures log segments only: index files have full size from the start, mostly empty."""
    sizes: dict[str, int] = {}
    for segment in data.glob(f"{prefix}*/*.log"):
        topic = segment.parent.name.rpartition("-")[0].removeprefix(prefix)
        sizes[topic] = sizes.get(topic, 0) + segment.stat().st_size
    return sizes
