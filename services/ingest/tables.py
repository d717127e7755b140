"""The table of ingest's schema. The migration defines its constraints."""

from sqlalchemy import Column, DateTime, LargeBinary, MetaData, Table, Text, Uuid

metadata = MetaData(schema="ingest")

requests = Table(
    "requests",
    metadata,
    Column("workspace_id", Uuid, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("body_hash", LargeBinary),
    Column("job_id", Uuid),
    Column("accepted_at", DateTime(timezone=True)),
    Column("state", Text),
    Column("decision", LargeBinary),
    Column("busy_until", DateTime(timezone=True)),
    Column("answer", LargeBinary),
)
