"""Describes the requests that webhooks send, as the `webhooks` of the OpenAPI document."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, FastAPI, Header
from pydantic import Field

from services.webhooks.payloads import EventName
from shared.contract.events import JobStatus
from shared.http.fields import WorkspaceId
from shared.http.models import ApiModel


class PinEventData(ApiModel):
    """The pin of an event."""

    pin_id: UUID
    """The pin's id."""
    account_id: UUID
    """The Pinterest account that owns the board."""
    board_id: str
    """The board of the pin."""
    idempotency_key: str
    """The pin's idempotency key."""
    job_id: UUID | None
    """The import that the pin came from. Null if it came from none."""
    row_number: int | None
    """The row of that import, from 1. Null if the pin came from no import."""


class PinPublishedData(PinEventData):
    """A pin that was published."""

    published_at: datetime
    """When it was published, in UTC."""
    pinterest_pin_id: str | None
    """The pin's id on Pinterest. Null if the account was never connected to Pinterest."""


class PinFailedData(PinEventData):
    """A pin that could not be published."""

    schedule_id: UUID | None
    """The pin's schedule."""
    error_code: str
    """The reason, as a code. docs/reference/errors.md lists the codes."""
    error_message: str
    """The reason in words, and what to do next."""
    failed_at: datetime
    """When it failed, in UTC."""


class ImportEndedData(ApiModel):
    """An import that has ended, and its counters."""

    request_id: str | None
    """The request id of an import that was requested by Kafka topic. Null for one over HTTP."""
    job_id: UUID
    """The job's id, for `GET /v1/pins/imports/{job_id}`."""
    status: JobStatus
    total_rows: int
    """Rows in the import. 0 if the whole import was refused."""
    processed_rows: int
    """Rows that have a result: all of them."""
    created_rows: int
    """Rows that were published or scheduled."""
    existing_rows: int
    """Rows whose idempotency key already had a pin or a schedule."""
    failed_rows: int
    """Rows that failed."""
    error_message: str | None
    """The reason why the whole import was refused. Otherwise null."""
    completed_at: datetime
    """When the import ended, in UTC."""


class WebhookPayload(ApiModel):
    """The body of a request to a webhook. It is the same at every attempt."""

    id: Annotated[str, Field(pattern="^evt_[0-9a-f]{32}$")]
    """The event's id, which is also the header `webhook-id`. Ignore an id that you have seen."""
    created_at: datetime
    """When the event happened, in UTC."""
    workspace_id: WorkspaceId


_TYPE = Field(description="The event's name.")
_EVENT = Field(description="The event's name again, as PinBridge sends it.")
_DATA = Field(description="The event itself.")


class PinPublishedPayload(WebhookPayload):
    """The body of the event `pin.published`."""

    type: Annotated[Literal["pin.published"], _TYPE]
    event: Annotated[Literal["pin.published"], _EVENT]
    data: Annotated[PinPublishedData, _DATA]


class PinFailedPayload(WebhookPayload):
    """The body of the event `pin.failed`."""

    type: Annotated[Literal["pin.failed"], _TYPE]
    event: Annotated[Literal["pin.failed"], _EVENT]
    data: Annotated[PinFailedData, _DATA]


_ImportEvent = Literal["import.completed", "import.completed_with_errors", "import.failed"]


class ImportEndedPayload(WebhookPayload):
    """The body of the events of an import's end."""

    type: Annotated[_ImportEvent, _TYPE]
    event: Annotated[_ImportEvent, _EVENT]
    data: Annotated[ImportEndedData, _DATA]


PAYLOADS: dict[EventName, tuple[type[WebhookPayload], str]] = {
    EventName.PIN_PUBLISHED: (PinPublishedPayload, "A pin was published."),
    EventName.PIN_FAILED: (
        PinFailedPayload,
        (
            "A scheduled pin could not be published when it was due. A row that fails in an import "
            "causes no such event, because it never became a pin."
        ),
    ),
    EventName.IMPORT_COMPLETED: (
        ImportEndedPayload,
        "An import has ended, and no row failed.",
    ),
    EventName.IMPORT_COMPLETED_WITH_ERRORS: (
        ImportEndedPayload,
        "An import has ended, and some rows failed.",
    ),
    EventName.IMPORT_FAILED: (
        ImportEndedPayload,
        "An import has ended, and all rows failed or the whole import was refused.",
    ),
}
"""The body and the description of each event."""


async def _signed_headers(
    signature: Annotated[
        str,
        Header(
            alias="X-PinBridge-Signature",
            description="HMAC-SHA256 of the raw body under the webhook's secret, in hexadecimal.",
        ),
    ],
    event: Annotated[EventName, Header(alias="X-PinBridge-Event", description="The event's name.")],
    delivery: Annotated[
        UUID,
        Header(
            alias="X-PinBridge-Delivery-ID",
            description="The delivery's id, which the delivery log uses.",
        ),
    ],
    webhook_id: Annotated[
        str,
        Header(
            alias="webhook-id",
            description="The event's id (Standard Webhooks). Every attempt has the same.",
        ),
    ],
    webhook_timestamp: Annotated[
        int,
        Header(
            alias="webhook-timestamp",
            description="The time of the attempt in seconds since 1970 (Standard Webhooks).",
        ),
    ],
    webhook_signature: Annotated[
        str,
        Header(
            alias="webhook-signature",
            description="`v1,` and the signature of id, time and body (Standard Webhooks).",
        ),
    ],
) -> None:
    """Describes the headers. Pinflow sends this request and never receives it."""


_ANSWERS: dict[int | str, dict[str, Any]] = {
    410: {"description": "The webhook is disabled, and gets no further requests."},
    "default": {
        "description": "Any other answer, also a redirect, is a failed attempt. Another follows."
    },
}


def describe_webhooks(app: FastAPI) -> None:
    """Adds a description of the request of each event. Nothing is served."""
    for name, (payload, description) in PAYLOADS.items():
        app.webhooks.add_api_route(
            name,
            _build_endpoint(payload),
            methods=["POST"],
            operation_id=name.replace(".", "_"),
            description=description,
            tags=["webhooks"],
            dependencies=[Depends(_signed_headers)],
            status_code=204,
            response_description="Any answer with 2xx within 10 seconds is a success.",
            responses=_ANSWERS,
            openapi_extra={"requestBody": {"description": payload.__doc__}},
        )


def _build_endpoint(payload: type[WebhookPayload]) -> Any:
    async def receive(body: payload) -> None:  # type: ignore[valid-type]
        """Describes the body."""

    return receive
