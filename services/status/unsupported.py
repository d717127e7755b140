"""Answers 501 `not_supported` for the operations of PinBridge's API that Pinflow leaves out, and
says what to do instead.

No key is needed: the answers tell nothing of a workspace. The OpenAPI document does not name these
operations; docs/reference/compatibility.md lists them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request, Response

from shared.contract.errors import ApiError, ErrorCode
from shared.http.bodies import discard

DISCARD_SECONDS = 2.0
"""How long a body is read and thrown away. It is enough for an upload from nearby, and too short to
hold a connection of the service with.
"""


@dataclass(frozen=True, slots=True)
class Area:
    """Operations that are left out for the same reason."""

    what: str
    """Ends the sentence "Pinflow has no …"."""
    paths: str
    """The paths of all operations, for docs/reference/compatibility.md."""
    instead: str
    operations: tuple[str, ...]
    """METHOD /path."""

    def refusal(self) -> ApiError:
        return ApiError(
            ErrorCode.NOT_SUPPORTED,
            f"Pinflow has no {self.what}. {self.instead}",
            HTTPStatus.NOT_IMPLEMENTED,
        )


AREAS = (
    Area(
        "users who log in",
        "/v1/auth/*",
        "The operator makes workspaces and their first keys with `pinflow`; further keys come "
        "from /v1/api-keys.",
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
        "Give each person or program an API key of its own, with the scopes and accounts it "
        "needs: /v1/api-keys.",
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
        "projects and sandboxes",
        "/v1/projects, /v1/projects/*",
        "To try things out, have the operator make another workspace: `pinflow workspaces create`.",
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
        "It is self-hosted, nothing is to be paid. What limits a workspace is told by "
        "/v1/rate-meter.",
        (
            "GET /v1/billing/pricing",
            "POST /v1/billing/checkout",
            "POST /v1/billing/portal",
            "GET /v1/billing/status",
            "POST /v1/stripe/webhook",
        ),
    ),
    Area(
        "store for images and videos",
        "/v1/assets, /v1/assets/*",
        "Put the file where it can be fetched and name its address as image_url; an asset_id is "
        "handed on as it is.",
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
        "connecting of accounts through Pinterest's OAuth",
        "/v1/pinterest/oauth/*",
        "The operator adds accounts with `pinflow accounts add`; /v1/pinterest/accounts lists "
        "them.",
        ("GET /v1/pinterest/oauth/start", "GET /v1/pinterest/oauth/callback"),
    ),
    Area(
        "analytics",
        "/v1/pins/{pin_id}/analytics, /v1/pinterest/accounts/{account_id}/analytics",
        "It asks nothing of Pinterest: look at Pinterest's own analytics.",
        ("GET /v1/pins/{pin_id}/analytics", "GET /v1/pinterest/accounts/{account_id}/analytics"),
    ),
    Area(
        "related terms",
        "/v1/pinterest/terms/related",
        "It asks nothing of Pinterest: related_terms of a pin are kept as they are sent.",
        ("GET /v1/pinterest/terms/related",),
    ),
    Area(
        "dashboard",
        "/v1/dashboard/summary",
        "Count by the lists: X-Total-Count of /v1/pins and /v1/schedules, the counters of "
        "/v1/pins/imports.",
        ("GET /v1/dashboard/summary",),
    ),
    Area(
        "activity log",
        "/v1/activity-logs",
        "What is published or fails is told by webhooks and on the topics pin-events and "
        "job-events.",
        ("GET /v1/activity-logs",),
    ),
    Area(
        "e-mails",
        "/v1/email/*",
        "It sends none. To be told of what happens, use /v1/webhooks.",
        ("GET /v1/email/preferences", "PATCH /v1/email/preferences", "GET /v1/email/unsubscribe"),
    ),
    Area(
        "quota for MCP",
        "/v1/mcp/*",
        "Clients of every kind share the workspace's limits, which /v1/rate-meter tells.",
        ("GET /v1/mcp/quota", "POST /v1/mcp/track"),
    ),
)


def add_unsupported_endpoints(api: FastAPI) -> None:
    """Adds the routes. Call this last: the first route that matches a request answers it."""
    for area in AREAS:
        for operation in area.operations:
            method, path = operation.split(" ")
            api.add_api_route(path, _refusing(area), methods=[method], include_in_schema=False)


def _refusing(area: Area) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(request: Request) -> Response:
        await discard(request, DISCARD_SECONDS)
        raise area.refusal()

    return refuse
