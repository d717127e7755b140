"""Adds the uploads of media to Pinterest (ADR 0048)."""

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    pass
