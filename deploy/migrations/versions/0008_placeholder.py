"""Nothing: stands for another branch's revision."""

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    pass
