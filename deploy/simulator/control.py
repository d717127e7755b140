"""Answers /_simulator, with which a test or an operator looks into the simulator and changes it."""

import sqlite3
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from deploy.simulator.store import SimulatorStore, now
from deploy.simulator.users import create_user

PREFIX = "/_simulator"


def control_routes(store: SimulatorStore) -> list[Route]:
    async def list_accounts(_: Request) -> JSONResponse:
        with store.transaction() as database:
            users = database.execute("select * from users order by number").fetchall()
            return JSONResponse([describe_account(database, user["id"]) for user in users])

    async def create_account(request: Request) -> JSONResponse:
        document: dict[str, Any] = await request.json()
        with store.transaction() as database:
            (number,) = database.execute("select count(*) + 1 from users").fetchone()
            username = document.get("username", f"user-{number}")
            user_id = create_user(database, username, document.get("boards", 0), now())
            return JSONResponse(describe_account(database, user_id), 201)

    async def change_settings(request: Request) -> JSONResponse:
        store.change_settings(await request.json())
        return JSONResponse(vars(store.settings))

    return [
        Route(f"{PREFIX}/accounts", list_accounts, methods=["GET"]),
        Route(f"{PREFIX}/accounts", create_account, methods=["POST"]),
        Route(f"{PREFIX}/settings", change_settings, methods=["POST"]),
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
