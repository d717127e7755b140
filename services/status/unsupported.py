"""Answers 501 `not_supported` to the operations of PinBridge's API that Pinflow does not have.

Each answer says what to do instead. No API key is needed, because the answers do not depend on the
workspace. The OpenAPI document does not contain these operations.
docs/reference/compatibility.md lists them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request, Response

from shared.contract.errors import ApiError, ErrorCode
from shared.http.bodies import discard

DISCARD_SECONDS = 2.0
"""Maximum time for which a body is read and discarded.

It is enough for an upload from a nearby client. It is too short for an attack that keeps the
service's connections open.
"""


@dataclass(frozen=True, slots=True)
class Area:
    """Operations of one feature that Pinflow does not have."""

    feature: str
    """The end of the sentence "Pinflow has no …"."""
    paths: str
    """The paths of all operations, for docs/reference/compatibility.md."""
    alternative: str
    """Sentences that say what to do instead."""
    operations: tuple[str, ...]
    """Operations in the form `METHOD /path`."""

    def build_error(self) -> ApiError:
        return ApiError(
            ErrorCode.NOT_SUPPORTED,
            f"Pinflow has no {self.feature}. {self.alternative}",
            HTTPStatus.NOT_IMPLEMENTED,
        )


AREAS = (
    Area(
        "user accounts",
        "/v1/auth/*",
        "The operator creates workspaces and their first API keys with the `pinflow` "
        "command. Create further keys with POST /v1/api-keys.",
        (
            "POST /v1/auth/register",
            "POST /v1/auth/login",
            "POST /v1/auth/forgot-password",
            "POST /v1/auth/reset-password",
            "POST /v1/auth/change-password",
            "POST /v1/auth/email/verify/request",
            "GET /v1/auth/email/verify",
            "POST /v1/auth/email/change/request",
            "GET /v1/auth/email/change/confirm",
            "GET /v1/auth/me",
            "GET /v1/auth/profile",
            "PUT /v1/auth/profile",
        ),
    ),
    Area(
        "team members",
        "/v1/team/*",
        "Create an API key for each person or program with POST /v1/api-keys, with the "
        "scopes and accounts that it needs.",
        (
            "GET /v1/team/members",
            "PATCH /v1/team/members/{member_id}",
            "DELETE /v1/team/members/{member_id}",
            "GET /v1/team/invitations",
            "POST /v1/team/invitations",
            "GET /v1/team/invitations/preview",
            "POST /v1/team/invitations/accept",
            "POST /v1/team/invitations/{invitation_id}/resend",
            "DELETE /v1/team/invitations/{invitation_id}",
        ),
    ),
    Area(
        "projects or sandboxes",
        "/v1/projects, /v1/projects/*",
        "For experiments, ask the operator for another workspace (`pinflow workspaces create`).",
        (
            "GET /v1/projects",
            "POST /v1/projects/switch",
            "POST /v1/projects/sandbox",
            "POST /v1/projects/sandbox/reset",
        ),
    ),
    Area(
        "billing",
        "/v1/billing/*, /v1/stripe/webhook",
        "It is self-hosted, so there is nothing to pay. GET /v1/rate-meter returns the "
        "limits of your workspace.",
        (
            "GET /v1/billing/pricing",
            "POST /v1/billing/checkout",
            "POST /v1/billing/portal",
            "GET /v1/billing/status",
            "POST /v1/stripe/webhook",
        ),
    ),
    Area(
        "storage for images or videos",
        "/v1/assets, /v1/assets/*",
        "Put the file on a web server and send its URL as image_url. An asset_id is stored "
        "unchanged, but can't be delivered to Pinterest.",
        (
            "GET /v1/assets",
            "DELETE /v1/assets",
            "POST /v1/assets/images",
            "POST /v1/assets/videos",
            "GET /v1/assets/{asset_id}",
            "DELETE /v1/assets/{asset_id}",
            "GET /v1/assets/{asset_id}/content",
        ),
    ),
    Area(
        "analytics",
        "/v1/pins/{pin_id}/analytics, /v1/pinterest/accounts/{account_id}/analytics",
        "It reads no statistics from Pinterest. Use Pinterest's own analytics.",
        ("GET /v1/pins/{pin_id}/analytics", "GET /v1/pinterest/accounts/{account_id}/analytics"),
    ),
    Area(
        "search for related terms",
        "/v1/pinterest/terms/related",
        "It does not search at Pinterest. The related_terms of a pin are stored as you send them.",
        ("GET /v1/pinterest/terms/related",),
    ),
    Area(
        "dashboard",
        "/v1/dashboard/summary",
        "Use the counts of the lists: the header X-Total-Count of GET /v1/pins and GET "
        "/v1/schedules, and the counters in GET /v1/pins/imports.",
        ("GET /v1/dashboard/summary",),
    ),
    Area(
        "activity log",
        "/v1/activity-logs",
        "Published pins, failed pins and completed imports are reported by webhooks "
        "(/v1/webhooks) and on the topics pin-events and job-events.",
        ("GET /v1/activity-logs",),
    ),
    Area(
        "e-mail notifications",
        "/v1/email/*",
        "Use webhooks instead: /v1/webhooks.",
        ("GET /v1/email/preferences", "PATCH /v1/email/preferences", "GET /v1/email/unsubscribe"),
    ),
    Area(
        "quota for MCP",
        "/v1/mcp/*",
        "All clients share the limits of the workspace. GET /v1/rate-meter returns them.",
        ("GET /v1/mcp/quota", "POST /v1/mcp/track"),
    ),
)


def add_unsupported_endpoints(api: FastAPI) -> None:
    """Adds the routes. Call this last: the first route that matches a request answers it."""
    for area in AREAS:
        for operation in area.operations:
            method, path = operation.split(" ")
            api.add_api_route(
                path, _build_endpoint(area), methods=[method], include_in_schema=False
            )


def _build_endpoint(area: Area) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        await discard(request, DISCARD_SECONDS)
        raise area.build_error()

    return answer
