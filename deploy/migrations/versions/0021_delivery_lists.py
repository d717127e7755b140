"""Lets the lists of pins show pins that wait for delivery."""

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    pass
