"""Adds what delivery needs after a restore (ADR 0046)."""

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    pass
