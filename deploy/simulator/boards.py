"""Answers the operations on boards and their sections."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from deploy.simulator.calls import ApiOperation, Call, CallAnswer
from deploy.simulator.errors import NOT_PERMITTED, SCOPE_MISSING, RefusedCall, invalid, refuse
from deploy.simulator.fields import (
    make_page,
    read_choice,
    read_document,
    read_flag,
    read_page,
    read_text,
    require_digits,
)
from deploy.simulator.store import format_time, new_id

BOARD_NOT_FOUND = 40
MAX_BOARDS = 2000
MAX_NAME = 180
PRIVACY = ("PUBLIC", "PROTECTED", "SECRET")
PRIVACY_FILTERS = {
    "ALL": PRIVACY,
    "PUBLIC": ("PUBLIC",),
    "PROTECTED": ("PROTECTED",),
    "SECRET": ("SECRET",),
    "PUBLIC_AND_SECRET": ("PUBLIC", "SECRET"),
}
READ = frozenset({"boards:read"})
WRITE = READ | {"boards:write"}


def find_board(call: Call, board_id: str) -> sqlite3.Row:
    """Returns a board of the user.

    Raises RefusedCall: 404 for an unknown board and a secret one without the scope, 403 for another
    user's board.
    """
    require_digits("board_id", board_id)
    row = call.database.execute("select * from boards where id = ?", (board_id,)).fetchone()
    if row is None or (row["privacy"] == "SECRET" and not can_read_secret(call)):
        raise RefusedCall(404, BOARD_NOT_FOUND, "Board not found.")
    if row["user_id"] != call.user.id:
        raise refuse(NOT_PERMITTED)
    return row  # type: ignore[no-any-return]


def can_read_secret(call: Call) -> bool:
    return "boards:read_secret" in call.user.scopes


def list_boards(call: Call) -> CallAnswer:
    page_size, after = read_page(call)
    privacy = PRIVACY_FILTERS[read_choice(call.query, "privacy", PRIVACY_FILTERS) or "ALL"]
    visible = [name for name in privacy if name != "SECRET" or can_read_secret(call)]
    rows = call.database.execute(
        "select * from boards where user_id = ? and number > ?"
        f" and privacy in ({', '.join('?' * len(visible))}) order by number limit ?",
        (call.user.id, after, *visible, page_size + 1),
    ).fetchall()
    return CallAnswer(200, make_page(rows, page_size, [describe_board(call, row) for row in rows]))


def get_board(call: Call) -> CallAnswer:
    return CallAnswer(200, describe_board(call, find_board(call, call.path["board_id"])))


def create_board(call: Call) -> CallAnswer:
    document = read_document(call)
    name = _read_name(document)
    description = read_text(document, "description", nullable=True)
    privacy = read_choice(document, "privacy", PRIVACY) or "PUBLIC"
    is_ads_only = read_flag(document, "is_ads_only") or False
    if is_ads_only:
        name, privacy = "Ad-only Pins", "PROTECTED"
    _require_secret_scope(call, privacy)
    (count,) = call.database.execute(
        "select count(*) from boards where user_id = ?", (call.user.id,)
    ).fetchone()
    if count >= MAX_BOARDS:
        raise RefusedCall(403, 403, f"You have the maximum of {MAX_BOARDS} boards.")
    row = call.database.execute(
        "insert into boards (id, user_id, name, description, privacy, is_ads_only, created_at)"
        " values (?, ?, ?, ?, ?, ?, ?) returning *",
        (new_id(), call.user.id, name, description, privacy, is_ads_only, call.now),
    ).fetchone()
    return CallAnswer(201, describe_board(call, row))


def update_board(call: Call) -> CallAnswer:
    document = read_document(call)
    board = find_board(call, call.path["board_id"])
    name = read_text(document, "name", minimum=1, maximum=MAX_NAME)
    description = read_text(document, "description", nullable=True)
    privacy = read_choice(document, "privacy", ("PUBLIC", "SECRET"))
    if privacy is not None:
        _require_secret_scope(call, privacy)
    row = call.database.execute(
        "update boards set name = ?, description = ?, privacy = ? where id = ? returning *",
        (
            board["name"] if name is None else name,
            description if "description" in document else board["description"],
            board["privacy"] if privacy is None else privacy,
            board["id"],
        ),
    ).fetchone()
    changed = describe_board(call, row)
    if changed["privacy"] == "PROTECTED":
        del changed["privacy"]  # the description gives this answer only PUBLIC and SECRET
    return CallAnswer(200, changed)


def delete_board(call: Call) -> CallAnswer:
    board = find_board(call, call.path["board_id"])
    call.database.execute("delete from boards where id = ?", (board["id"],))
    return CallAnswer(204)


def list_sections(call: Call) -> CallAnswer:
    board = find_board(call, call.path["board_id"])
    page_size, after = read_page(call)
    rows = call.database.execute(
        "select * from sections where board_id = ? and number > ? order by number limit ?",
        (board["id"], after, page_size + 1),
    ).fetchall()
    return CallAnswer(200, make_page(rows, page_size, [describe_section(row) for row in rows]))


def create_section(call: Call) -> CallAnswer:
    document = read_document(call)
    board = find_board(call, call.path["board_id"])
    name = _read_name(document)
    row = call.database.execute(
        "insert into sections (id, board_id, name) values (?, ?, ?) returning *",
        (new_id(), board["id"], name),
    ).fetchone()
    return CallAnswer(201, describe_section(row))


def describe_board(call: Call, row: sqlite3.Row) -> dict[str, Any]:
    (pins,) = call.database.execute(
        "select count(*) from pins where board_id = ? and deleted_at is null", (row["id"],)
    ).fetchone()
    return {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "privacy": row["privacy"],
        "is_ads_only": bool(row["is_ads_only"]),
        "owner": {"username": call.user.username},
        "created_at": format_time(row["created_at"]),
        "board_pins_modified_at": format_time(row["pins_modified_at"] or row["created_at"]),
        "pin_count": pins,
        "follower_count": 0,
        "collaborator_count": 0,
        "media": {"image_cover_url": None, "pin_thumbnail_urls": []},
    }


def describe_section(row: sqlite3.Row) -> dict[str, str]:
    return {"id": row["id"], "name": row["name"]}


def _read_name(document: Mapping[str, Any]) -> str:
    name = read_text(document, "name", minimum=1, maximum=MAX_NAME)
    if name is None:
        raise invalid("'name' is a required property")
    return name


def _require_secret_scope(call: Call, privacy: str) -> None:
    if privacy == "SECRET" and "boards:write_secret" not in call.user.scopes:
        raise RefusedCall(
            401, SCOPE_MISSING, "Authorization failed. Missing: ['boards:write_secret']"
        )


BOARD, SECTIONS = "/boards/{board_id}", "/boards/{board_id}/sections"
OPERATIONS = (
    ApiOperation("boards/list", "GET", "/boards", "org_read", READ, list_boards),
    ApiOperation("boards/create", "POST", "/boards", "org_write", WRITE, create_board),
    ApiOperation("boards/get", "GET", BOARD, "org_read", READ, get_board),
    ApiOperation("boards/update", "PATCH", BOARD, "org_write", WRITE, update_board),
    ApiOperation("boards/delete", "DELETE", BOARD, "org_write", WRITE, delete_board),
    ApiOperation("board_sections/list", "GET", SECTIONS, "org_read", READ, list_sections),
    ApiOperation("board_sections/create", "POST", SECTIONS, "org_write", WRITE, create_section),
)
