"""Fields that many HTTP models have, each with its one description for the OpenAPI document."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from shared.contract.events import FieldDifference

WorkspaceId = Annotated[UUID, Field(description="The workspace of the API key.")]
AccountId = Annotated[UUID, Field(description="The Pinterest account that owns the board.")]
CreatedAt = Annotated[datetime, Field(description="When it was created, in UTC.")]
UpdatedAt = Annotated[datetime, Field(description="When it was last changed, in UTC.")]
RevokedAt = Annotated[
    datetime | None, Field(description="When it was revoked, in UTC. Null while it is active.")
]
PinterestPinId = Annotated[
    str | None,
    Field(
        description="The pin's id at Pinterest. Null until it is there, and for a pin that is not "
        "sent to Pinterest."
    ),
]
FailureCode = Annotated[
    str | None,
    Field(
        description="The error code that says why it failed. Null if it has not failed. "
        "docs/reference/errors.md lists the codes."
    ),
]
FailureMessage = Annotated[
    str | None,
    Field(description="The reason in words, and what to do next. Null if it has not failed."),
]
PayloadMatches = Annotated[
    bool | None,
    Field(
        description="True if the content equals the first accepted content of the idempotency key. "
        "Null if the key was free."
    ),
]
DifferingFields = Annotated[
    list[FieldDifference] | None,
    Field(
        description="The fields that differ from the pin that has the idempotency key, as it is "
        "now. Null if the key was free."
    ),
]
