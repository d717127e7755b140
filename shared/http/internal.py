"""Calls between services: routes under /internal, with the installation's token.

The gateway does not have these routes. The token also protects them from other programs of the
network.
"""

import asyncio
import secrets
from http import HTTPStatus
from typing import Annotated, Any

import httpcore
import orjson
from fastapi import Depends, Request
from pydantic import SecretStr

from shared.contract.errors import RETRY_AFTER, ApiError, ErrorCode
from shared.http.client import REQUEST_FAILURES

_SCHEME = "Bearer "
_NOT_SENT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.UnsupportedProtocol)
"""Failures after which a replica certainly has not received the request."""


async def _require_token(request: Request) -> None:
    """Raises ApiError unless the request has the installation's token."""
    token: str = request.app.state.internal_token.get_secret_value()
    if not token:
        raise _token_missing()
    sent = request.headers.get("authorization", "")
    if not secrets.compare_digest(sent.encode("latin-1"), f"{_SCHEME}{token}".encode()):
        raise ApiError(
            ErrorCode.INTERNAL_ACCESS_DENIED,
            "The installation's token is missing or wrong. Give all services the same "
            "PINFLOW_INTERNAL_TOKEN.",
            HTTPStatus.FORBIDDEN,
        )


RequiresInternalToken = Annotated[None, Depends(_require_token)]
"""An endpoint under /internal has it as a parameter, or its router as a dependency."""


class ServiceAway(ApiError):
    """No replica of the other service answered. Unless it is a NoAnswer, none was even reached."""

    def __init__(self, service: str) -> None:
        super().__init__(
            ErrorCode.SERVICE_UNAVAILABLE,
            f"The {service} service does not answer. Try again.",
            HTTPStatus.SERVICE_UNAVAILABLE,
            headers=RETRY_AFTER,
        )


class NoAnswer(ServiceAway):
    """A replica was reached, but gave no answer in time, or none that is Pinflow's.

    Other requests may succeed, if only this one takes long.
    """


class InternalClient:
    """Calls one other service. Any of its replicas can answer."""

    def __init__(
        self, service: str, http: httpcore.AsyncConnectionPool, urls: str, token: SecretStr
    ) -> None:
        """Takes the replicas' URLs, separated by commas. The caller closes `http`."""
        self._service = service
        self._http = http
        self._urls = urls.split(",")
        self._token = token.get_secret_value()

    async def post(self, path: str, document: Any, *, timeout_seconds: float) -> Any:
        """Sends a document to /internal/`path`. Returns the answer's document.

        Only a replica that certainly did not receive the request is skipped. Raises the ApiError
        that the other service answers, with its code. Raises NoAnswer if a replica was reached and
        did not answer, otherwise ServiceAway.
        """
        if not self._token:
            raise _token_missing()
        headers = [
            (b"Content-Type", b"application/json"),
            (b"Authorization", f"{_SCHEME}{self._token}".encode()),
        ]
        body = orjson.dumps(document)
        for url in self._urls:
            try:
                async with asyncio.timeout(timeout_seconds):
                    answer = await self._http.request(
                        "POST", f"{url}/internal/{path}", headers=headers, content=body
                    )
            except _NOT_SENT:
                continue
            except (TimeoutError, *REQUEST_FAILURES):
                raise NoAnswer(self._service) from None
            return self._read(answer)
        raise ServiceAway(self._service)

    def _read(self, answer: httpcore.Response) -> Any:
        try:
            document = orjson.loads(answer.content)
            if answer.status == HTTPStatus.OK:
                return document
            status, detail = HTTPStatus(answer.status), document["detail"]
            code, message = ErrorCode(detail.pop("code")), detail.pop("message")
        except (ValueError, KeyError, TypeError, AttributeError):  # not an answer of Pinflow
            raise NoAnswer(self._service) from None
        detail.pop("help", None)
        headers = {
            name.decode(): value.decode()
            for name, value in answer.headers
            if name.lower() == b"retry-after"
        }
        raise ApiError(code, message, status, headers=headers, **detail)


def _token_missing() -> ApiError:
    return ApiError(
        ErrorCode.SERVICE_UNAVAILABLE,
        "The services of this installation can't call each other. The operator has to set "
        "PINFLOW_INTERNAL_TOKEN, the same for all of them.",
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
