"""Builds the simulator's application: operations, consent page and control routes."""

import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.simulator import boards, tokens, users
from deploy.simulator.calls import Answer, ApiOperation, Call, RefusedCall, User
from deploy.simulator.consent import consent_routes
from deploy.simulator.control import control_routes
from deploy.simulator.options import Options
from deploy.simulator.store import SimulatorStore, now

API_PREFIX = "/v5"
OPERATIONS = (*tokens.OPERATIONS, *users.OPERATIONS, *boards.OPERATIONS)


def create_app(store: SimulatorStore, options: Options) -> Starlette:
    with store.transaction() as database:
        users.create_first_users(database, now())
    return Starlette(
        routes=[
            *(
                Route(
                    API_PREFIX + operation.path,
                    _build_endpoint(operation, store, options),
                    methods=[operation.method],
                )
                for operation in OPERATIONS
            ),
            *consent_routes(store, options),
            *control_routes(store),
            Route("/readyz", _answer_ready, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _describe_http_error},
    )


def _build_endpoint(
    operation: ApiOperation, store: SimulatorStore, options: Options
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        body = await request.body()
        try:
            user = _admit(operation, store, request)
            return _respond(_run(operation, store, options, request, body, user))
        except RefusedCall as refusal:
            document = {"code": refusal.code, "message": refusal.message}
            return _respond(Answer(refusal.status, document, refusal.headers))

    return answer


def _admit(operation: ApiOperation, store: SimulatorStore, request: Request) -> User | None:
    """Checks the token and its scopes. Its transaction remains if the operation then refuses."""
    if operation.scopes is None:
        return None
    header = request.headers.get("authorization", "")
    refusal: RefusedCall | None = None
    user: User | None = None
    with store.transaction() as database:
        try:
            user = tokens.authenticate(database, operation, header, now())
        except RefusedCall as error:
            refusal = error
    if refusal is not None:
        raise refusal
    return user


def _run(
    operation: ApiOperation,
    store: SimulatorStore,
    options: Options,
    request: Request,
    body: bytes,
    user: User | None,
) -> Answer:
    with store.transaction() as database:
        return operation.run(
            Call(
                database=database,
                settings=store.settings,
                options=options,
                now=now(),
                path=request.path_params,
                query=request.query_params,
                headers=request.headers,
                body=body,
                signed_in=user,
            )
        )


def _respond(answer: Answer) -> Response:
    headers = {"x-pinterest-rid": str(secrets.randbits(62)), **answer.headers}
    if answer.document is None:
        return Response(status_code=answer.status, headers=headers)
    return JSONResponse(answer.document, answer.status, headers=headers)


async def _answer_ready(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def _describe_http_error(_: Request, error: Any) -> Response:
    message = HTTPStatus(error.status_code).phrase
    return _respond(
        Answer(
            error.status_code,
            {"code": error.status_code, "message": message},
            error.headers or {},
        )
    )
