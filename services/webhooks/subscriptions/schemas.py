"""HTTP models of webhooks.

The fields are those of pinbridge-sdk 1.10.1. Pinflow's own fields are last in each model.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from services.webhooks.delivery.model import DeliveryStatus, DisabledReason
from services.webhooks.delivery.signing import standard_key
from services.webhooks.payloads import EventName
from shared.contract.pins import MAX_URL_LENGTH
from shared.contract.urls import normalize_url
from shared.http.requests import parse_model

M = TypeVar("M", bound=BaseModel)

DEFAULT_EVENTS = (EventName.PIN_PUBLISHED, EventName.PIN_FAILED)


def _normalize_receiver_url(value: str) -> str:
    """Normalizes a URL as browsers do. Unusual spellings of IP addresses become the usual ones."""
    url = normalize_url(value).partition("#")[0]
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise PydanticCustomError(
            "url_user_info",
            "must not contain a user name or password. Let the receiver check the signature",
        )
    if len(url) > MAX_URL_LENGTH:
        raise PydanticCustomError(
            "url_too_long",
            "must have at most 2048 characters after non-ASCII characters are escaped",
        )
    return url


def _check_secret(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("nul_character", "must not contain the character NUL")
    try:
        standard_key(value)
    except ValueError as error:
        raise PydanticCustomError("secret_base64", "{reason}", {"reason": str(error)}) from None
    return value


def _sort_events(events: list[EventName]) -> list[EventName]:
    # Without duplicates, so that lists of the same events are equal
    return [name for name in EventName if name in events]


_URL_SCHEMA = Field(
    json_schema_extra={
        "format": "uri",
        "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
        "examples": ["https://shop.example/hooks"],
    }
)
_SECRET_SCHEMA = Field(
    json_schema_extra={
        "writeOnly": True,
        "pattern": r"^[^\x00]*$",
        "examples": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    }
)

ReceiverUrl = Annotated[
    str,
    StringConstraints(max_length=MAX_URL_LENGTH),
    AfterValidator(_normalize_receiver_url),
    _URL_SCHEMA,
]
Secret = Annotated[
    str,
    StringConstraints(min_length=16, max_length=255),
    AfterValidator(_check_secret),
    _SECRET_SCHEMA,
]
# Not a reference: the schema of an endpoint that reads its body itself has no definitions
_Event = Annotated[EventName, WithJsonSchema(TypeAdapter(EventName).json_schema())]
Events = Annotated[list[_Event], Field(min_length=1, max_length=100), AfterValidator(_sort_events)]


class WebhookCreate(BaseModel):
    """Fields of a new webhook.

    `secret` signs the deliveries and is never returned. A secret that begins with `whsec_` is a
    Standard Webhooks secret.
    """

    model_config = ConfigDict(extra="ignore")

    url: ReceiverUrl
    secret: Secret
    events: Events = list(DEFAULT_EVENTS)
    is_enabled: StrictBool = True

    def values(self) -> dict[str, Any]:
        """Returns the values by column."""
        return self.model_dump(mode="json")


class WebhookUpdate(BaseModel):
    """Fields of a webhook to change. A field that is absent or null stays unchanged."""

    model_config = ConfigDict(extra="ignore")

    url: ReceiverUrl | None = None
    secret: Secret | None = None
    events: Events | None = None
    is_enabled: StrictBool | None = None

    def changes(self) -> dict[str, Any]:
        """Returns the changed values by column."""
        return self.model_dump(mode="json", exclude_none=True)


def parse_body(model: type[M], document: object) -> M:
    """Validates a body. Raises ApiError (422) with its faults, but without the secret."""
    return parse_model(model, document, secrets={"secret"})


class WebhookResponse(BaseModel):
    id: UUID
    workspace_id: UUID
    url: str
    events: list[str]
    is_enabled: bool
    created_at: datetime
    updated_at: datetime
    disabled_reason: DisabledReason | None
    """The reason why Pinflow disabled the webhook.

    `gone`: the receiver answered 410. `failing`: too many consecutive deliveries or attempts
    failed.
    """

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "WebhookResponse":
        fields = {name: row[name] for name in cls.model_fields if name in row}
        return cls(**{**fields, "id": row["webhook_id"]})


class WebhookDeliveryResponse(BaseModel):
    id: UUID
    webhook_id: UUID
    event_type: str
    payload: dict[str, Any]
    attempt_count: int
    last_status_code: int | None
    last_error: str | None
    next_attempt_at: datetime | None
    created_at: datetime
    updated_at: datetime
    status: DeliveryStatus
    event_id: str
    """The id in the header `webhook-id`: the same for every webhook that gets this event."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "WebhookDeliveryResponse":
        fields = {name: row[name] for name in cls.model_fields if name in row}
        return cls(**{**fields, "id": row["delivery_id"], "payload": orjson.loads(row["body"])})
