"""Turns a code, or the app's own credentials, into a grant, and asks Pinterest whose it is."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from pydantic import SecretStr

from services.access.connections.errors import build_api_error, quote_reason
from services.access.connections.link import PinterestApi
from services.access.connections.model import PinterestUser
from services.access.connections.users import USER_OPERATION, parse_user
from services.access.oauth.rules import START_AGAIN, answer_lost, app_not_accepted, denied
from shared.contract.errors import ApiError
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused
from shared.pinterest.judging import is_app_refused
from shared.pinterest.model import TokenGrant

log = structlog.get_logger()

MAX_ATTEMPTS = 3
"""Maximum requests for the user: a read may be repeated."""
RETRY_SECONDS = 0.2
READ_SECONDS = 15.0
"""Maximum time of all these attempts. The gateway waits 45 s, and the exchange takes up to 20."""


class CodeNotUsed(Exception):
    """The exchange did not take place, so the same code can be exchanged later."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


async def exchange_code(api: PinterestApi, code: str, redirect_url: str) -> TokenGrant:
    """Exchanges a code for tokens. Raises CodeNotUsed, or ApiError if the code is spent."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_url}
    try:
        with _judging_app():
            return await api.request_tokens(form)
    except NotSent as failure:
        raise CodeNotUsed(build_api_error(failure)) from failure
    except AnswerLost as failure:
        raise answer_lost() from failure
    except Refused as failure:
        if failure.cause is Cause.RATE_LIMIT:
            raise CodeNotUsed(build_api_error(failure)) from failure
        raise denied(
            f"Pinterest did not accept the answer: {quote_reason(failure)}. Nothing was "
            f"connected. {START_AGAIN}"
        ) from failure


async def request_own_grant(api: PinterestApi, scopes: tuple[str, ...]) -> TokenGrant:
    """Asks for tokens of the app owner's own account. Raises a PinterestFailure or ApiError."""
    form = {"grant_type": "client_credentials", "scope": ",".join(scopes)}
    with _judging_app():
        return await api.request_tokens(form)


async def read_user(api: PinterestApi, token: SecretStr) -> PinterestUser:
    """Asks Pinterest who the token's user is. Raises a PinterestFailure."""
    deadline = asyncio.get_running_loop().time() + READ_SECONDS
    attempt = 1
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return parse_user(
                    await api.call(USER_OPERATION, "GET", "/user_account", token=token)
                )
        except TimeoutError:
            raise AnswerLost(USER_OPERATION, "no answer in time") from None
        except (NotSent, AnswerLost):
            if attempt == MAX_ATTEMPTS:
                raise
        await asyncio.sleep(RETRY_SECONDS * attempt)
        attempt += 1


@contextmanager
def _judging_app() -> Iterator[None]:
    """Raises ApiError if Pinterest refused the app, which is not the user's fault."""
    try:
        yield
    except Refused as refusal:
        if not is_app_refused(refusal.status, refusal.code):
            raise
        log.warning(
            "pinterest_app_refused",
            hint="Compare PINFLOW_PINTEREST_APP_ID and the app's secret with the app's page.",
            status=refusal.status,
            code=refusal.code,
            pinterest_request_id=refusal.request_id,
        )
        raise app_not_accepted() from refusal
