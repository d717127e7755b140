"""A place in the chain: the branch `lists` has this revision."""

revision = "0007"
down_revision = "0006"


def upgrade() -> None: ...
