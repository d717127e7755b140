"""Builds the simulator's application: operations, uploads, consent page and control routes."""

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from deploy.simulator import boards, media, pins, tokens, users
from deploy.simulator.calls import ApiOperation
from deploy.simulator.consent import consent_routes
from deploy.simulator.control import control_routes
from deploy.simulator.dispatch import Dispatcher
from deploy.simulator.options import Options
from deploy.simulator.store import SimulatorStore, now

API_PREFIX = "/v5"
OPERATIONS = (
    *tokens.OPERATIONS,
    *users.OPERATIONS,
    *boards.OPERATIONS,
    *pins.OPERATIONS,
    *media.OPERATIONS,
)


def create_app(store: SimulatorStore, options: Options) -> Starlette:
    with store.transaction() as database:
        users.create_first_users(database, now())
    dispatcher = Dispatcher(store, options)
    return Starlette(
        routes=[
            *(
                Route(
                    API_PREFIX + path,
                    dispatcher.build_endpoint(operations),
                    methods=[operation.method for operation in operations],
                )
                for path, operations in _group_by_path()
            ),
            *media.upload_routes(store, dispatcher.faults),
            *consent_routes(store, options),
            *control_routes(dispatcher),
            Route("/readyz", _answer_ready, methods=["GET"]),
        ],
        exception_handlers={HTTPException: dispatcher.describe_http_error},
    )


def _group_by_path() -> Iterable[tuple[str, list[ApiOperation]]]:
    """Groups operations by path. A route has all methods of its path, and so has Allow in a 405."""
    groups: dict[str, list[ApiOperation]] = {}
    for operation in OPERATIONS:
        groups.setdefault(operation.path, []).append(operation)
    return groups.items()


async def _answer_ready(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})
