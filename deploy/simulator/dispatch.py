"""Takes a request through authentication, rate limit, faults and its operation."""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from deploy.simulator import tokens
from deploy.simulator.buckets import Buckets
from deploy.simulator.calls import ApiOperation, Call, CallAnswer, User
from deploy.simulator.errors import (
    NOT_PERMITTED,
    RATE_LIMITED,
    ErrorAnswer,
    RefusedCall,
    invalid,
    refuse,
)
from deploy.simulator.fault_kinds import CallFacts
from deploy.simulator.faults import Cut, Faults, Injection
from deploy.simulator.fields import require_digits
from deploy.simulator.options import Options
from deploy.simulator.requests import RequestLog, parse_body
from deploy.simulator.store import SimulatorStore, now

MAX_AD_ACCOUNT_ID = 18
APP = "app"
"""Stands for the user in the rate limit of calls without a token."""


class _CutConnection(Exception):
    """Raised where an injected fault cuts the connection."""


class NoResponse(Response):
    """Aborts the connection. Nothing that was not yet sent leaves the process."""

    async def __call__(self, scope: Scope, receive: Receive, _: Send) -> None:
        scope["state"]["transport"].abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class Dispatcher:
    """Holds what is shared by all calls."""

    def __init__(self, store: SimulatorStore, options: Options) -> None:
        self.store = store
        self.options = options
        self.faults = Faults(options.seed)
        self.buckets = Buckets(options.writes_per_minute)
        self.requests = RequestLog()

    def build_endpoint(
        self, operations: Sequence[ApiOperation]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Builds the endpoint of one path. Each operation has a method of its own."""
        by_method = {operation.method: operation for operation in operations}

        async def answer(request: Request) -> Response:
            operation = by_method["GET" if request.method == "HEAD" else request.method]
            body = await request.body()
            try:
                response = await self._answer(operation, request, body)
            except _CutConnection:
                response = NoResponse()
            self._record(operation.name, request, body, response)
            return response

        return answer

    async def describe_http_error(self, request: Request, error: Exception) -> Response:
        """Answers what no operation answers: an unknown path or method."""
        assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this class
        message = HTTPStatus(error.status_code).phrase
        document = {"code": error.status_code, "message": message}
        response = _respond(CallAnswer(error.status_code, document, error.headers or {}))
        self._record(None, request, b"", response)
        return response

    async def _answer(self, operation: ApiOperation, request: Request, body: bytes) -> Response:
        headers: dict[str, str] = {}
        injection = Injection()
        try:
            user = self._admit(operation, request)
            request.state.account_id = user.id if user else self._find_token_owner(body)
            headers |= self._count(operation, user)
            _require_no_ad_account(request)
            facts = _describe_call(operation, request, body)
            injection = self.faults.draw(facts, now())
            await asyncio.sleep(injection.delay_seconds / 2)
            _apply(injection.before, headers)
            if injection.deletes_board:
                self._delete_board(facts)
            answer = self._run(operation, request, body, user)
        except RefusedCall as refusal:
            answer = _describe_refusal(refusal)
        await asyncio.sleep(injection.delay_seconds / 2)
        try:
            _apply(injection.after, headers)
        except RefusedCall as refusal:
            answer = _describe_refusal(refusal)
        return _respond(answer._replace(headers={**headers, **answer.headers}))

    def _admit(self, operation: ApiOperation, request: Request) -> User | None:
        """Checks the token and its scopes. Its changes remain if the operation then refuses."""
        if operation.scopes is None:
            return None
        header = request.headers.get("authorization", "")
        refusal: RefusedCall | None = None
        user: User | None = None
        with self.store.transaction() as database:
            try:
                user = tokens.authenticate(database, operation, header, now())
            except RefusedCall as error:
                refusal = error
        if refusal is not None:
            raise refusal
        return user

    def _count(self, operation: ApiOperation, user: User | None) -> dict[str, str]:
        """Counts the request and returns the headers. Raises RefusedCall beyond the limit."""
        settings = self.store.settings
        if not settings.buckets:
            return {}
        quota = self.buckets.take(
            settings.access, user.id if user else APP, operation.category, now()
        )
        if quota.is_exceeded:
            raise refuse(RATE_LIMITED, quota.headers)
        return quota.headers

    def _run(
        self, operation: ApiOperation, request: Request, body: bytes, user: User | None
    ) -> CallAnswer:
        with self.store.transaction() as database:
            return operation.run(
                Call(
                    database=database,
                    settings=self.store.settings,
                    options=self.options,
                    faults=self.faults,
                    now=now(),
                    path=request.path_params,
                    query=request.query_params,
                    headers=request.headers,
                    body=body,
                    signed_in=user,
                )
            )

    def _delete_board(self, facts: CallFacts) -> None:
        with self.store.transaction() as database:
            database.execute(
                "delete from boards where id = ? and user_id = ?",
                (facts.board_id, facts.account_id),
            )

    def _find_token_owner(self, body: bytes) -> str | None:
        """Returns the user whose code or refresh token stands in a form."""
        form = parse_body("application/x-www-form-urlencoded", body) or {}
        with self.store.transaction() as database:
            return _find_owner(database, form)

    def _record(
        self, operation: str | None, request: Request, body: bytes, response: Response
    ) -> None:
        self.requests.record(
            request.method,
            request.url.path,
            operation=operation,
            account_id=getattr(request.state, "account_id", None),
            query=request.query_params,
            media_type=request.headers.get("content-type", ""),
            user_agent=request.headers.get("user-agent", ""),
            body=body,
            status=None if isinstance(response, NoResponse) else response.status_code,
            time=now(),
        )


def _require_no_ad_account(request: Request) -> None:
    """Refuses to act for an ad account: the simulator has none."""
    ad_account_id = request.query_params.get("ad_account_id")
    if ad_account_id is None:
        return
    require_digits("ad_account_id", ad_account_id)
    if len(ad_account_id) > MAX_AD_ACCOUNT_ID:
        raise invalid(f"ad_account_id has more than {MAX_AD_ACCOUNT_ID} characters")
    raise refuse(NOT_PERMITTED)


def _find_owner(database: sqlite3.Connection, form: Mapping[str, Any]) -> str | None:
    row = database.execute(
        "select user_id from tokens where refresh_token = ?"
        " union select user_id from codes where code = ?",
        (form.get("refresh_token"), form.get("code")),
    ).fetchone()
    return None if row is None else str(row["user_id"])


def _describe_call(operation: ApiOperation, request: Request, body: bytes) -> CallFacts:
    board_id = request.path_params.get("board_id")
    if board_id is None and operation.name == "pins/create":
        document = parse_body("application/json", body)
        board_id = document.get("board_id") if isinstance(document, dict) else None
    return CallFacts(
        operation.name,
        request.state.account_id,
        operation.category,
        board_id if isinstance(board_id, str) else None,
        body,
    )


def _apply(effect: Cut | ErrorAnswer | None, headers: dict[str, str]) -> None:
    """Raises what an injected fault does in place of the call or its answer."""
    match effect:
        case Cut():
            raise _CutConnection
        case ErrorAnswer(status, code, message, reset_seconds):
            if reset_seconds is not None:
                headers |= {
                    "x-ratelimit-limit": headers.get("x-ratelimit-limit", "100"),
                    "x-ratelimit-remaining": "0",
                    "x-ratelimit-reset": str(reset_seconds),
                }
            raise RefusedCall(status, code, message)


def _describe_refusal(refusal: RefusedCall) -> CallAnswer:
    document = {"code": refusal.code, "message": refusal.message}
    return CallAnswer(refusal.status, document, refusal.headers)


def _respond(answer: CallAnswer) -> Response:
    headers = {"x-pinterest-rid": str(secrets.randbits(62)), **answer.headers}
    if answer.document is None:
        return Response(status_code=answer.status, headers=headers)
    return JSONResponse(answer.document, answer.status, headers=headers)
