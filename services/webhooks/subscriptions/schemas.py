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
)
from pydantic_core import PydanticCustomError

from services.webhooks.delivery.model import DeliveryStatus, DisabledReason
from services.webhooks.delivery.signing import standard_key
from services.webhooks.payloads import EventName
from shared.contract.pin_fields import MAX_URL_LENGTH
from shared.contract.urls import normalize_url
from shared.http.fields import CreatedAt, UpdatedAt, WorkspaceId
from shared.http.models import ApiModel
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
Events = Annotated[
    list[EventName], Field(min_length=1, max_length=100), AfterValidator(_sort_events)
]


class WebhookCreate(ApiModel):
    """A new webhook."""

    model_config = ConfigDict(extra="ignore")

    url: ReceiverUrl
    """The address that gets the requests: http or https, public, at most 2048 characters."""
    secret: Secret
    """Signs the requests: 16 to 255 characters. No response contains it. A secret that begins with
    `whsec_` is a Standard Webhooks secret: base64 must follow."""
    events: Events = Field(default=list(DEFAULT_EVENTS))
    """The events that are sent. Duplicates are dropped."""
    is_enabled: StrictBool = True
    """False: nothing is sent until the webhook is enabled."""

    def values(self) -> dict[str, Any]:
        """Returns the values by column."""
        return self.model_dump(mode="json")


class WebhookUpdate(ApiModel):
    """Changes of a webhook. A field that is absent or null stays unchanged."""

    model_config = ConfigDict(extra="ignore")

    url: ReceiverUrl | None = None
    """The new address. Pending deliveries go there too."""
    secret: Secret | None = None
    """The new secret. It signs all requests from now on."""
    events: Events | None = None
    """The events that are sent from now on."""
    is_enabled: StrictBool | None = None
    """False: nothing is sent, and events of that time are missed. True: deliveries continue, and
    failures are forgotten."""

    def changes(self) -> dict[str, Any]:
        """Returns the changed values by column."""
        return self.model_dump(mode="json", exclude_none=True)


def parse_body(model: type[M], document: object) -> M:
    """Validates a body. Raises ApiError (422) with its faults, but without the secret."""
    return parse_model(model, document, secrets={"secret"})


class WebhookResponse(ApiModel):
    """A webhook, without its secret."""

    id: UUID
    """The webhook's id."""
    workspace_id: WorkspaceId
    url: str
    """The address that gets the requests."""
    events: list[str]
    """The events that are sent."""
    is_enabled: bool
    """False: nothing is sent."""
    created_at: CreatedAt
    updated_at: UpdatedAt
    disabled_reason: DisabledReason | None
    """The reason why Pinflow disabled the webhook. Null if it is enabled, or if a client disabled
    it."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "WebhookResponse":
        fields = {name: row[name] for name in cls.model_fields if name in row}
        return cls(**{**fields, "id": row["webhook_id"]})


class WebhookDeliveryResponse(ApiModel):
    """One event for one webhook, and the attempts to send it."""

    id: UUID
    """The delivery's id: the header `X-PinBridge-Delivery-ID` of its requests."""
    webhook_id: UUID
    """The webhook that gets the event."""
    event_type: str
    """The event's name, for example `pin.published`."""
    payload: dict[str, Any]
    """The body of the request. It is the same at every attempt."""
    attempt_count: int
    """Attempts so far."""
    last_status_code: int | None
    """The HTTP status of the last answer. Null if none arrived yet."""
    last_error: str | None
    """The error of the last attempt. Null if it succeeded, or if there was none."""
    next_attempt_at: datetime | None
    """When the next attempt is due, in UTC. Null if none follows."""
    created_at: CreatedAt
    updated_at: UpdatedAt
    status: DeliveryStatus
    event_id: str
    """The id in the header `webhook-id`: the same for every webhook that gets this event."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "WebhookDeliveryResponse":
        fields = {name: row[name] for name in cls.model_fields if name in row}
        return cls(**{**fields, "id": row["delivery_id"], "payload": orjson.loads(row["body"])})
