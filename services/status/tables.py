"""Describes the status service's tables for queries.

The migrations define the tables and their constraints.
"""

from sqlalchemy import JSON, Column, DateTime, Integer, MetaData, Table, Text, Uuid

metadata = MetaData(schema="status")

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    Column("accepted_at", DateTime(timezone=True)),
    Column("started_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
    Column("announced_at", DateTime(timezone=True)),
    Column("total_rows", Integer),
    Column("created_rows", Integer),
    Column("existing_rows", Integer),
    Column("failed_rows", Integer),
    Column("status", Text),
    Column("source_type", Text),
    Column("source_filename", Text),
    Column("request_id", Text),
    Column("warnings", JSON),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("publishing_now", Integer),
    Column("scheduled_for_later", Integer),
    Column("parent_id", Uuid),
)
