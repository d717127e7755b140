"""Answers /_simulator, with which a test or an operator looks into the simulator and changes it."""

import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.simulator import pins
from deploy.simulator.dispatch import Dispatcher
from deploy.simulator.fault_kinds import InjectedFault
from deploy.simulator.options import Settings
from deploy.simulator.store import now
from deploy.simulator.users import MAX_NAME_CHARACTERS, create_first_users, create_user

PREFIX = "/_simulator"
NO_FAULTS = {"kind": "none"}
MODEL = ConfigDict(extra="forbid", strict=True)
PASSING_TABLES = ("pins", "media")
ALL_TABLES = (*PASSING_TABLES, "tokens", "codes", "sections", "boards", "users", "settings")
ModelT = TypeVar("ModelT", bound=BaseModel)
Endpoint = Callable[[Request], Awaitable[Response]]


class NewUser(BaseModel):
    model_config = MODEL

    username: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)] | None = None
    boards: Annotated[int, Field(ge=0, le=2000)] = 0


class TokenChange(BaseModel):
    """Ends all tokens that a user has now."""

    model_config = MODEL

    user: str
    """A user's name or id."""
    action: Literal["expire_access", "expire_refresh", "revoke"]


class Reset(BaseModel):
    model_config = MODEL

    everything: bool = False
    """True: as at the first start, also without the users, boards and tokens."""


TOKEN_CHANGES = {
    "expire_access": "access_expires_at = min(access_expires_at, :now)",
    "expire_refresh": "refresh_expires_at = min(refresh_expires_at, :now)",
    "revoke": "revoked_at = coalesce(revoked_at, :now)",
}


class _Unusable(Exception):
    """A request that this interface can't use."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Control:
    """The routes' functions. They answer 400 or 404 with a message if a request is unusable."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._store = dispatcher.store
        self._faults = dispatcher.faults

    async def list_accounts(self, _: Request) -> Response:
        with self._store.transaction() as database:
            users = database.execute("select * from users order by number").fetchall()
            return JSONResponse([describe_account(database, user["id"]) for user in users])

    async def create_account(self, request: Request) -> Response:
        new = _validate(NewUser, await _read(request))
        with self._store.transaction() as database:
            (number,) = database.execute("select count(*) + 1 from users").fetchone()
            try:
                user_id = create_user(database, new.username or f"user-{number}", new.boards, now())
            except sqlite3.IntegrityError:
                raise _Unusable(409, "There is a user of this name.") from None
            return JSONResponse(describe_account(database, user_id), 201)

    async def list_pins(self, request: Request) -> Response:
        with self._store.transaction() as database:
            query = request.query_params
            return JSONResponse(pins.read_log(database, query.get("board_id"), query.get("id")))

    async def list_requests(self, _: Request) -> Response:
        # Starlette's JSONResponse fails for half of a surrogate pair, which a client may have sent
        document = json.dumps(self._dispatcher.requests.list())
        return Response(document, media_type="application/json")

    async def list_tokens(self, _: Request) -> Response:
        """Answers every token and code that was ever issued: tests look for them in what leaks."""
        with self._store.transaction() as database:
            rows = database.execute(
                "select access_token from tokens union all select refresh_token from tokens"
                " where refresh_token is not null union all select code from codes"
            )
            return JSONResponse([secret for (secret,) in rows])

    async def change_tokens(self, request: Request) -> Response:
        change = _validate(TokenChange, await _read(request))
        with self._store.transaction() as database:
            user = database.execute(
                "select id from users where :user in (id, username)", {"user": change.user}
            ).fetchone()
            if user is None:
                raise _Unusable(404, "There is no such user.")
            changed = database.execute(
                f"update tokens set {TOKEN_CHANGES[change.action]} where user_id = :user",
                {"user": user["id"], "now": now()},
            ).rowcount
        return JSONResponse({"changed": changed})

    async def show_faults(self, _: Request) -> Response:
        return JSONResponse(self._faults.describe())

    async def set_fault(self, request: Request) -> Response:
        document = await _read(request)
        if document == NO_FAULTS:
            self._faults.clear()
        else:
            self._faults.add(_validate(InjectedFault, document))
        return JSONResponse(self._faults.describe())

    async def show_settings(self, _: Request) -> Response:
        return JSONResponse(asdict(self._store.settings))

    async def change_settings(self, request: Request) -> Response:
        changes = await _read(request)
        current = asdict(self._store.settings)
        if unknown := sorted(changes.keys() - current.keys()):
            raise _Unusable(400, f"There are no settings {', '.join(unknown)}.")
        try:
            # From JSON, because strict validation of Python objects takes no dict for Settings
            TypeAdapter(Settings).validate_json(json.dumps({**current, **changes}), strict=True)
        except ValidationError as error:
            raise _Unusable(400, _describe_problems(error)) from None
        self._store.change_settings(changes)
        return JSONResponse(asdict(self._store.settings))

    async def reset(self, request: Request) -> Response:
        """Forgets pins, media, requests, faults and rate limits. Users, boards and tokens stay."""
        reset = _validate(Reset, await _read(request))
        with self._store.transaction() as database:
            for table in ALL_TABLES if reset.everything else PASSING_TABLES:
                database.execute(f"delete from {table}")
            create_first_users(database, now())
        self._store.change_settings(asdict(Settings()))
        self._faults.forget()
        self._dispatcher.buckets.clear()
        self._dispatcher.requests.clear()
        return Response(status_code=204)


def control_routes(dispatcher: Dispatcher) -> list[Route]:
    control = Control(dispatcher)
    routes: list[tuple[str, str, Endpoint]] = [
        ("GET", "accounts", control.list_accounts),
        ("POST", "accounts", control.create_account),
        ("GET", "faults", control.show_faults),
        ("POST", "faults", control.set_fault),
        ("GET", "pins", control.list_pins),
        ("GET", "requests", control.list_requests),
        ("POST", "reset", control.reset),
        ("GET", "settings", control.show_settings),
        ("POST", "settings", control.change_settings),
        ("GET", "tokens", control.list_tokens),
        ("POST", "tokens", control.change_tokens),
    ]
    return [
        Route(f"{PREFIX}/{name}", _answer_unusable(endpoint), methods=[method])
        for method, name, endpoint in routes
    ]


def describe_account(database: sqlite3.Connection, user_id: str) -> dict[str, Any]:
    user = database.execute("select * from users where id = ?", (user_id,)).fetchone()
    boards = database.execute(
        "select id from boards where user_id = ? order by number", (user_id,)
    ).fetchall()
    return {
        "id": user["id"],
        "username": user["username"],
        "boards": [board["id"] for board in boards],
    }


def _answer_unusable(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except _Unusable as error:
            return JSONResponse({"message": error.message}, error.status)

    return answer


async def _read(request: Request) -> dict[str, Any]:
    """Reads a JSON object. A request without a body has an empty one."""
    if not await request.body():
        return {}
    try:
        document = await request.json()
    except ValueError:
        raise _Unusable(400, "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise _Unusable(400, "The body is not an object.")
    return document


def _validate(model: type[ModelT], document: dict[str, Any]) -> ModelT:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _Unusable(400, _describe_problems(error)) from None


def _describe_problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
