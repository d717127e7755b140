"""Lets ingest read boards, so that a row may give its board by name."""

from deploy.migrations.grants import grant_on

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    grant_on("access.boards", "pinflow_ingest", "select")
