"""Grants each role what its service does, table by table, and nothing on future tables."""

from alembic import op

from deploy.migrations.grants import grant_on, revoke_all

revision = "0006"
down_revision = "0005"

ROLES = ("pinflow_ingest", "pinflow_publisher", "pinflow_status")


def upgrade() -> None:
    for role in ROLES:
        revoke_all("access", role)
        grant_on("access.api_keys", role, "select")
    grant_on("access.workspaces", "pinflow_ingest", "select")  # of requests by topic
    grant_on("access.accounts", "pinflow_publisher", "select")
    grant_on("access.boards", "pinflow_publisher", "select")

    revoke_all("ingest", "pinflow_ingest")
    grant_on("ingest.requests", "pinflow_ingest", "select, insert, update")

    revoke_all("publisher", "pinflow_publisher")
    grant_on("publisher.pins", "pinflow_publisher", "select, insert, update")
    grant_on("publisher.row_failures", "pinflow_publisher", "select, insert")
    # An event that was announced is deleted; `for update` wants the right to update. The identity's
    # sequence needs no right of its own
    grant_on("publisher.outbox", "pinflow_publisher", "select, insert, update, delete")

    revoke_all("status", "pinflow_status")
    grant_on("status.jobs", "pinflow_status", "select, insert, update")
    grant_on("status.row_results", "pinflow_status", "select, insert")
    grant_on("status.fold_progress", "pinflow_status", "select, insert, update")
    op.execute("revoke execute on function status.job_status from public")
    op.execute("grant execute on function status.job_status to pinflow_status")
    op.execute("alter default privileges revoke execute on functions from public")
