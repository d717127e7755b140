"""Builds the simulator's application: operations, uploads, consent page and control routes."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from deploy.simulator import boards, media, pins, tokens, users
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
                    API_PREFIX + operation.path,
                    dispatcher.build_endpoint(operation),
                    methods=[operation.method],
                )
                for operation in OPERATIONS
            ),
            *media.upload_routes(store, dispatcher.faults),
            *consent_routes(store, options),
            *control_routes(dispatcher),
            Route("/readyz", _answer_ready, methods=["GET"]),
        ],
        exception_handlers={HTTPException: dispatcher.describe_http_error},
    )


async def _answer_ready(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})
