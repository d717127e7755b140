"""Calls Pinterest's API v5. A call is sent at most once: nothing here retries."""

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote

import orjson
import structlog
from pydantic import SecretStr

from shared.contract.pins import make_printable
from shared.pinterest.failures import AnswerLost, Cause, NotSent, PinterestFailure, Refused
from shared.pinterest.judging import is_answer_lost, judge
from shared.pinterest.model import RateLimits
from shared.pinterest.reading import read_error, read_limits, read_seconds, require_fields
from shared.pinterest.settings import PinterestApiSettings
from shared.runtime.metrics import PINTEREST_REQUESTS, PINTEREST_SECONDS

if TYPE_CHECKING:
    from shared.pinterest.transport import RawAnswer, Transport

log = structlog.get_logger()

PAGE_SIZE = 250
"""Pinterest's maximum."""
MAX_PAGES = 100
LIST_SECONDS = 300.0
"""Maximum time of a whole list. Otherwise slow pages would take half an hour."""
JSON = "application/json"
RETRY_AFTER_HEADERS = ("x-ratelimit-reset", "retry-after")
"""Both give seconds. Pinterest's reset is not a time."""
MAX_REQUEST_ID_LENGTH = 64

T = TypeVar("T")
LimitsObserver: TypeAlias = Callable[[RateLimits], None]


class PinterestClient:
    """Calls Pinterest with the tokens of accounts.

    `operation` is the operation's id in Pinterest's API description, for example "boards/list".
    Every method raises NotSent, AnswerLost or Refused (shared/pinterest/failures.py).
    """

    def __init__(self, settings: PinterestApiSettings) -> None:
        self._settings = settings
        self._transport: Transport | None = None

    async def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        token: SecretStr,
        params: Mapping[str, str] | None = None,
        document: Any = None,
        on_limits: LimitsObserver | None = None,
    ) -> Any:
        """Sends one request. Returns the answer's JSON, or None if it has no content (204).

        `path` follows the version in the URL, for example "/boards/123". `on_limits` is called with
        Pinterest's count of requests, if its answer has one: also before a failure is raised.
        """
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        content = None
        if document is not None:
            content = orjson.dumps(document)
            headers["Content-Type"] = JSON
        return await self._send(
            operation,
            method,
            path,
            lambda answer: require_fields(operation, answer),
            headers=headers,
            params=params,
            content=content,
            on_limits=on_limits,
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
        deadline = time.monotonic() + LIST_SECONDS
        while True:
            answer = await self.call(operation, "GET", path, token=token, params=page)
            items += answer["items"]
            bookmark = answer.get("bookmark")
            if not bookmark:
                return items
            if bookmark in bookmarks or len(bookmarks) == MAX_PAGES - 1:
                raise AnswerLost(operation, "Pinterest's list has no end.")
            if time.monotonic() > deadline:
                raise AnswerLost(operation, f"Pinterest's list took longer than {LIST_SECONDS} s.")
            bookmarks.add(bookmark)
            page["bookmark"] = bookmark

    async def close(self) -> None:
        """Closes all connections."""
        if self._transport is not None:
            await self._transport.close()

    async def _send(
        self,
        operation: str,
        method: str,
        path: str,
        read: Callable[[Any], T],
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        on_limits: LimitsObserver | None = None,
    ) -> T:
        """Sends one request. Returns what `read` makes of a success. Counts and logs the outcome.

        `read` raises ValueError if the answer is unusable: then it counts as lost.
        """
        url = f"{self._settings.api_url}{quote(path)}"
        transport = self._open_transport()
        started = time.perf_counter()
        try:
            sent = await transport.send(
                operation, method, url, headers=headers, params=params, content=content
            )
            if on_limits is not None and (limits := read_limits(sent.headers)) is not None:
                on_limits(limits)
            answer = read(_require_success(operation, sent))
        except ValueError as error:
            failure = AnswerLost(operation, str(error))
            record_failure(failure)
            raise failure from None
        except PinterestFailure as failure:
            record_failure(failure)
            raise
        finally:
            PINTEREST_SECONDS.observe(time.perf_counter() - started)
        PINTEREST_REQUESTS.labels(operation, "success").inc()
        return answer

    def _open_transport(self) -> "Transport":
        if self._transport is None:
            from shared.pinterest.transport import Transport  # noqa: PLC0415 - httpx: 0.1 s

            self._transport = Transport(self._settings.pinterest_timeout_seconds)
        return self._transport


def _require_success(operation: str, answer: "RawAnswer") -> Any:
    """Returns the JSON of a success, or None without content. Raises AnswerLost or Refused."""
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        try:
            return orjson.loads(answer.body) if answer.body else None
        except orjson.JSONDecodeError:
            raise AnswerLost(operation, "Pinterest's answer is not JSON.") from None
    request_id = make_printable(answer.headers.get("x-pinterest-rid", ""), MAX_REQUEST_ID_LENGTH)
    code, message = read_error(answer.body)
    if is_answer_lost(status, code):
        raise AnswerLost(
            operation, f"Pinterest answered {status}, code {code}, request id {request_id or None}."
        )
    cause = judge(status, code, message)
    retry_after = None
    if cause in {Cause.RATE_LIMIT, Cause.SPAM_BLOCK}:
        retry_after = read_seconds(answer.headers.get(name) for name in RETRY_AFTER_HEADERS)
    raise Refused(
        operation,
        message or f"Pinterest answered {status}.",
        status=status,
        code=code,
        cause=cause,
        request_id=request_id or None,
        retry_after_seconds=retry_after,
    )


def record_failure(failure: PinterestFailure) -> None:
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
