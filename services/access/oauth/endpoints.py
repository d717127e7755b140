"""HTTP endpoints that connect accounts to Pinterest."""

from collections import Counter
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from services.access.dependencies import Access
from services.access.oauth.pages import (
    PAGE_HEADERS,
    PRIVATE_HEADERS,
    build_page,
    build_return_url,
)
from services.access.oauth.schemas import (
    CONNECTED,
    AppOwnerConnection,
    OAuthAttemptResponse,
    OAuthCallbackResponse,
    OAuthStartResponse,
)
from services.access.oauth.service import Callback
from shared.access.dependencies import ReadAccess, WriteAccess
from shared.contract.errors import ApiError, ErrorCode
from shared.http.accept import find_quality, parse_accept
from shared.http.errors import (
    ACCESS_ERRORS,
    CONFLICT,
    NOT_FOUND,
    OVERLOADED,
    build_response,
    error_responses,
)
from shared.http.internal import RequiresInternalToken
from shared.http.parameters import require_only_known_parameters
from shared.http.requests import parse_model, uuid_or_404

MAX_CODE_LENGTH = 2048
HTML, JSON = "text/html", "application/json"
PARAMETERS = ("state", "code", "error", "error_description")

router = APIRouter(tags=["pinterest"], responses=ACCESS_ERRORS)
callback_router = APIRouter(tags=["pinterest"])
"""Without a key: the caller is the browser of a user whom Pinterest sends back."""

internal_router = APIRouter(prefix="/internal", include_in_schema=False)

_PAGES: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {
        "description": "The account is connected. A browser gets a page (`Accept: text/html`).",
        "content": {
            HTML: {
                "schema": {
                    "title": "OAuthCallbackPage",
                    "type": "string",
                    "description": "A page for people.",
                }
            }
        },
    },
    HTTPStatus.SEE_OTHER: {
        "description": "To a browser, if the operator has set PINFLOW_PINTEREST_RETURN_URL: the "
        "address of that page, with `status` (`connected` or `failed`), and `account_id` or "
        "`code`.",
        "headers": {"Location": {"description": "The page to open.", "schema": {"type": "string"}}},
    },
}


@router.get(
    "/v1/pinterest/oauth/start",
    responses=OVERLOADED | NOT_FOUND | CONFLICT,
    response_description="The page to open in a browser.",
)
async def start_oauth(
    request: Request,
    response: Response,
    principal: WriteAccess,
    access: Access,
    account_id: Annotated[
        str | None,
        Query(
            description="The account to connect, or to connect again. Absent: the account of the "
            "Pinterest user who allows the access, or a new one."
        ),
    ] = None,
) -> OAuthStartResponse:
    """Start to connect an account to Pinterest.

    Open `authorization_url` in a browser, where the account's user allows the access. Pinterest
    then sends the browser back to Pinflow (`/v1/pinterest/oauth/callback`), which connects the
    account. Each call starts an attempt of its own, which expires after 15 minutes unless the
    operator has set another time.

    Without `account_id`, the account of that Pinterest user is connected; if the workspace has none
    yet, it is created. With `account_id`, exactly this account is connected. If it was connected
    before, another Pinterest user can't take it over. A key with a list of accounts must send an
    `account_id` from its list (403 `account_not_permitted`).

    If the operator has no app at Pinterest, the answer is 409 `pinterest_off`.
    """
    await require_only_known_parameters(request)
    target = None if account_id is None else uuid_or_404(account_id, "Account")
    started = await access.oauth.start(principal, target)
    response.headers["Cache-Control"] = "no-store"
    return OAuthStartResponse(
        authorization_url=started.authorization_url,
        attempt_id=started.id,
        expires_at=started.expires_at,
    )


@router.get(
    "/v1/pinterest/oauth/attempts/{attempt_id}",
    responses=NOT_FOUND,
    response_description="The attempt.",
)
async def get_oauth_attempt(
    attempt_id: Annotated[str, Path(description="The attempt's id.")],
    principal: ReadAccess,
    access: Access,
) -> OAuthAttemptResponse:
    """Get the status of an attempt to connect an account.

    Poll it while `status` is `pending`. An attempt is stored until a day after it has expired.
    """
    row = await access.oauth.find_attempt(principal, uuid_or_404(attempt_id, "Attempt"))
    return OAuthAttemptResponse.from_row(row)


@callback_router.get(
    "/v1/pinterest/oauth/callback",
    response_model=OAuthCallbackResponse,
    responses=error_responses(HTTPStatus.BAD_REQUEST, HTTPStatus.TOO_MANY_REQUESTS)
    | CONFLICT
    | _PAGES,
)
async def finish_oauth(
    request: Request,
    access: Access,
    state: Annotated[str, Query(description="The state from `authorization_url`.")] = "",
    code: Annotated[
        str | None,
        Query(
            max_length=MAX_CODE_LENGTH, description="Pinterest's code, if the access is allowed."
        ),
    ] = None,
    error: Annotated[
        str | None, Query(description="Pinterest's error, if the access is not allowed.")
    ] = None,
    error_description: Annotated[str | None, Query(description="The error in words.")] = None,
) -> Response:
    """Connect the account of a user whom Pinterest sends back. No API key is needed.

    The `state` says which attempt it is. It works once: a repeated request does nothing and gets
    the same answer. A state that this installation did not issue answers 400 `oauth_state_invalid`;
    one that has expired, or whose first request is still being processed, answers 409
    `oauth_state_used`. If the user has not allowed the access, the answer is 400 `oauth_denied`.
    If Pinterest does not accept the installation's app, the answer is 409 `app_not_accepted`.

    A browser (`Accept: text/html`) gets a page instead of JSON.
    """
    return_url = access.settings.pinterest_return_url
    wants_page = _prefers_page(request)
    try:
        _require_single_parameters(request)
        account_id = await access.oauth.finish(Callback(state, code, error, error_description))
    except ApiError as failure:
        return _answer_failure(failure, return_url) if wants_page else _json_failure(failure)
    return _answer_connected(account_id, return_url) if wants_page else _json(account_id)


@internal_router.post("/pinterest/accounts")
async def connect_app_owner(
    request: Request, access: Access, _: RequiresInternalToken
) -> dict[str, str]:
    """Connect the account of the app's owner, without a redirect. For an operator.

    The gateway does not have this route.
    """
    async with access.reader.read(request) as document:
        body = parse_model(AppOwnerConnection, document)
    connected = await access.oauth.connect_app_owner(body.workspace_id, body.account_id)
    return {"account_id": str(connected)}


def _prefers_page(request: Request) -> bool:
    ranges = parse_accept(request.headers.getlist("accept"))
    return find_quality(HTML, ranges) > find_quality(JSON, ranges)


def _require_single_parameters(request: Request) -> None:
    """Raises ApiError if a parameter is there twice: its reader could be another than ours.

    Unknown ones are ignored: Pinterest may add some.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    for name in PARAMETERS:
        if counts[name] > 1:
            message = f"{name}: must be sent once; it is there {counts[name]} times."
            raise ApiError(ErrorCode.INVALID_PARAMETER, message)


def _json(account_id: UUID) -> Response:
    content = OAuthCallbackResponse(account_id=account_id).model_dump(mode="json")
    return JSONResponse(content, headers={**PRIVATE_HEADERS, "Vary": "Accept"})


def _json_failure(failure: ApiError) -> Response:
    response = build_response(failure)
    response.headers.update({**PRIVATE_HEADERS, "Vary": "Accept"})
    return response


def _answer_connected(account_id: UUID, return_url: str) -> Response:
    if return_url:
        return _redirect(return_url, {"status": "connected", "account_id": str(account_id)})
    return _page(HTTPStatus.OK, is_connected=True, message=CONNECTED)


def _answer_failure(failure: ApiError, return_url: str) -> Response:
    if return_url:
        return _redirect(return_url, {"status": "failed", "code": failure.code})
    response = _page(failure.status, is_connected=False, message=failure.message)
    response.headers.update(failure.headers)
    return response


def _redirect(url: str, parameters: dict[str, str]) -> Response:
    return RedirectResponse(
        build_return_url(url, parameters),
        HTTPStatus.SEE_OTHER,
        headers={**PRIVATE_HEADERS, "Vary": "Accept"},
    )


def _page(status: HTTPStatus, *, is_connected: bool, message: str) -> Response:
    return HTMLResponse(
        build_page(is_connected=is_connected, message=message),
        status,
        headers={**PAGE_HEADERS, "Vary": "Accept"},
    )
