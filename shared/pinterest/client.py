"""Calls Pinterest's API v5. A call is sent at most once: nothing here retries.

Only the access service and the delivery process import this module: httpx costs 0.1 s of CPU.
"""

import asyncio
import base64
import ssl
import time
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import orjson
import structlog
from pydantic import SecretStr

from shared.contract.pins import make_printable
from shared.pinterest.failures import AnswerLost, Cause, NotSent, PinterestFailure, Refused
from shared.pinterest.judging import is_answer_lost, judge
from shared.pinterest.model import TokenGrant
from shared.pinterest.reading import read_error, read_grant, read_seconds, require_fields
from shared.pinterest.settings import PinterestSettings
from shared.runtime.metrics import PINTEREST_REQUESTS, PINTEREST_SECONDS

log = structlog.get_logger()

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Maximum size of an answer. A page of 250 boards with all fields has about 0.5 MB."""
PAGE_SIZE = 250
"""Pinterest's maximum."""
MAX_PAGES = 100
TOKEN_OPERATION = "oauth/token"  # noqa: S105
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # the maximum size is that of the decoded answer
    "User-Agent": f"Pinflow/{version('pinflow')}",
}
HEADERS_STARTED = "http11.send_request_headers.started"
"""httpcore's trace event before the first byte of a request is written (version 1.0)."""
RETRY_AFTER_HEADERS = ("x-ratelimit-reset", "retry-after")
"""Both give seconds. Pinterest's reset is not a time."""

T = TypeVar("T")


class PinterestClient:
    """A pool of connections to Pinterest.

    `operation` is the operation's id in Pinterest's API description, for example "boards/list".
    Every method raises NotSent, AnswerLost or Refused (shared/pinterest/failures.py).
    """

    def __init__(self, settings: PinterestSettings) -> None:
        self._settings = settings
        self._http = httpx.AsyncClient(
            headers=HEADERS,
            verify=ssl.create_default_context(),
            timeout=settings.pinterest_timeout_seconds,  # of each step; _exchange limits them all
            trust_env=False,  # no proxy, and no passwords from a .netrc file
            follow_redirects=False,
            # A cookie of one account must not reach the requests of another
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    async def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        token: SecretStr,
        params: Mapping[str, str] | None = None,
        document: Any = None,
    ) -> Any:
        """Sends one request. Returns the answer's JSON, or None if it has no content (204).

        `path` follows the version in the URL, for example "/boards/123".
        """
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        content = None
        if document is not None:
            content = orjson.dumps(document)
            headers["Content-Type"] = "application/json"
        request = self._build(method, path, headers=headers, params=params, content=content)
        return await self._send(
            operation, request, lambda answer: require_fields(operation, answer)
        )

    async def list_all(
        self,
        operation: str,
        path: str,
        *,
        token: SecretStr,
        params: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Reads all pages of a list. If one page fails, the whole list fails."""
        items: list[dict[str, Any]] = []
        bookmarks: set[str] = set()
        page = {**(params or {}), "page_size": str(PAGE_SIZE)}
        while True:
            answer = await self.call(operation, "GET", path, token=token, params=page)
            items += answer["items"]
            bookmark = answer.get("bookmark")
            if not bookmark:
                return items
            if bookmark in bookmarks or len(bookmarks) == MAX_PAGES - 1:
                raise AnswerLost(operation, "Pinterest's list has no end.")
            bookmarks.add(bookmark)
            page["bookmark"] = bookmark

    async def request_tokens(self, form: Mapping[str, str]) -> TokenGrant:
        """Sends a form to the token endpoint, with the app's id and secret."""
        fields = dict(form)
        if fields.get("grant_type") == "authorization_code":
            # Apps from before 2025-09-25 otherwise get refresh tokens that can't be renewed
            fields["continuous_refresh"] = "true"
        settings = self._settings
        app = f"{settings.pinterest_app_id}:{settings.app_secret}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(app).decode()}"}
        request = self._build("POST", "/oauth/token", headers=headers, data=fields)
        return await self._send(TOKEN_OPERATION, request, read_grant)

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    def _build(self, method: str, path: str, **options: Any) -> httpx.Request:
        return self._http.build_request(method, f"{self._settings.api_url}{quote(path)}", **options)

    async def _send(self, operation: str, request: httpx.Request, read: Callable[[Any], T]) -> T:
        """Sends one request. Returns what `read` makes of a success. Counts and logs the outcome.

        `read` raises ValueError if the answer is unusable: then it counts as lost.
        """
        started = time.perf_counter()
        try:
            response, body = await self._exchange(operation, request)
            answer = read(_require_success(operation, response, body))
        except ValueError as error:
            failure = AnswerLost(operation, str(error))
            _record_failure(failure)
            raise failure from None
        except PinterestFailure as failure:
            _record_failure(failure)
            raise
        finally:
            PINTEREST_SECONDS.observe(time.perf_counter() - started)
        PINTEREST_REQUESTS.labels(operation, "success").inc()
        return answer

    async def _exchange(
        self, operation: str, request: httpx.Request
    ) -> tuple[httpx.Response, bytes]:
        """Sends a request and reads the whole answer. Raises NotSent or AnswerLost."""
        is_sent = False

        async def notice_sending(event: str, _info: object) -> None:
            nonlocal is_sent
            is_sent = is_sent or event == HEADERS_STARTED

        request.extensions["trace"] = notice_sending
        seconds = self._settings.pinterest_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                response = await self._http.send(request, stream=True)
                try:
                    return response, await _read_body(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            reason = f"no answer within {seconds:g} s"
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            # Only the type: the text may have the value of a header, which is a token
            reason = type(error).__name__
        if is_sent:
            raise AnswerLost(operation, f"Pinterest's answer was lost: {reason}.")
        raise NotSent(operation, f"Pinterest can't be reached: {reason}.")


async def _read_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise httpx.DecodingError("too large", request=response.request)
    return bytes(body)


def _require_success(operation: str, response: httpx.Response, body: bytes) -> Any:
    """Returns the JSON of a success, or None without content. Raises AnswerLost or Refused."""
    status = response.status_code
    if response.is_success:
        try:
            return orjson.loads(body) if body else None
        except orjson.JSONDecodeError:
            raise AnswerLost(operation, "Pinterest's answer is not JSON.") from None
    request_id = make_printable(response.headers.get("x-pinterest-rid", ""), 64)
    code, message = read_error(body)
    if is_answer_lost(status, code):
        raise AnswerLost(
            operation, f"Pinterest answered {status}, code {code}, request id {request_id or None}."
        )
    cause = judge(status, code, message)
    retry_after = None
    if cause in {Cause.RATE_LIMIT, Cause.SPAM_BLOCK}:
        retry_after = read_seconds(response.headers.get(name) for name in RETRY_AFTER_HEADERS)
    raise Refused(
        operation,
        message or f"Pinterest answered {status}.",
        status=status,
        code=code,
        cause=cause,
        request_id=request_id or None,
        retry_after_seconds=retry_after,
    )


def _record_failure(failure: PinterestFailure) -> None:
    """Counts and logs a failure. Never logs Pinterest's text, which may quote the request."""
    if isinstance(failure, Refused):
        outcome = f"refused_{failure.cause}"
        log.info(
            "pinterest_refused",
            operation=failure.operation,
            cause=failure.cause,
            status=failure.status,
            code=failure.code,
            pinterest_request_id=failure.request_id,
        )
    else:
        outcome = "not_sent" if isinstance(failure, NotSent) else "answer_lost"
        log.warning("pinterest_failed", operation=failure.operation, reason=failure.message)
    PINTEREST_REQUESTS.labels(failure.operation, outcome).inc()
