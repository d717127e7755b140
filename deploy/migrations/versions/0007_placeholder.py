"""Nothing: stands for another branch's revision."""

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    pass
