"""Grants each role only the privileges that its service needs, and none on future tables."""

from alembic import op

from deploy.migrations.grants import grant_on, revoke_all

revision = "0006"
down_revision = "0005"

ROLES = ("pinflow_ingest", "pinflow_publisher", "pinflow_status")


def upgrade() -> None:
    for role in ROLES:
        revoke_all("access", role)
        grant_on("access.api_keys", role, "select")
    grant_on("access.workspaces", "pinflow_ingest", "select")  # for requests on the topic
    grant_on("access.accounts", "pinflow_publisher", "select")
    grant_on("access.boards", "pinflow_publisher", "select")

    revoke_all("ingest", "pinflow_ingest")
    grant_on("ingest.requests", "pinflow_ingest", "select, insert, update")

    revoke_all("publisher", "pinflow_publisher")
    grant_on("publisher.pins", "pinflow_publisher", "select, insert, update")
    grant_on("publisher.row_failures", "pinflow_publisher", "select, insert")
    # Sent events are deleted. `for update` needs the update privilege. The sequence of an identity
    # column needs no grant
    grant_on("publisher.outbox", "pinflow_publisher", "select, insert, update, delete")

    revoke_all("status", "pinflow_status")
    grant_on("status.jobs", "pinflow_status", "select, insert, update")
    grant_on("status.row_results", "pinflow_status", "select, insert")
    grant_on("status.fold_progress", "pinflow_status", "select, insert, update")
    op.execute("revoke execute on function status.job_status from public")
    op.execute("grant execute on function status.job_status to pinflow_status")
    op.execute("alter default privileges revoke execute on functions from public")
