"""Keeps the users of Pinterest, and answers GET /user_account."""

import sqlite3

from deploy.simulator.calls import ApiOperation, Call, CallAnswer
from deploy.simulator.store import new_id

FIRST_USERS = ("rosa", "tom")
FIRST_BOARDS = 5
"""The number of boards of a first user, and of one who is created on the page /oauth/."""
MAX_NAME_CHARACTERS = 100


def create_first_users(database: sqlite3.Connection, now: float) -> None:
    """Creates two users with boards if there are no users. The first one owns the app."""
    if database.execute("select 1 from users").fetchone() is None:
        for username in FIRST_USERS:
            create_user(database, username, FIRST_BOARDS, now)


def create_user(database: sqlite3.Connection, username: str, boards: int, now: float) -> str:
    """Creates a user with boards and returns its id.

    Raises sqlite3.IntegrityError if the name exists.
    """
    user_id = new_id()
    database.execute(
        "insert into users (id, username, created_at) values (?, ?, ?)", (user_id, username, now)
    )
    database.executemany(
        "insert into boards (id, user_id, name, created_at) values (?, ?, ?, ?)",
        [(new_id(), user_id, f"Board {number}", now) for number in range(1, boards + 1)],
    )
    return user_id


def find_app_owner(database: sqlite3.Connection) -> str:
    row = database.execute("select id from users order by number limit 1").fetchone()
    return str(row["id"])


def get_user_account(call: Call) -> CallAnswer:
    boards, pins = call.database.execute(
        "select (select count(*) from boards where user_id = :user), (select count(*) from pins"
        " join boards on boards.id = board_id where pins.user_id = :user and deleted_at is null)",
        {"user": call.user.id},
    ).fetchone()
    return CallAnswer(
        200,
        {
            "account_type": "BUSINESS",
            "id": call.user.id,
            "username": call.user.username,
            "business_name": None,
            "profile_image": f"https://i.pinimg.example/{call.user.id}.jpg",
            "website_url": "",
            "about": "",
            "board_count": boards,
            "pin_count": pins,
            "follower_count": 0,
            "following_count": 0,
            "monthly_views": 0,
        },
    )


OPERATIONS = (
    ApiOperation(
        "user_account/get",
        "GET",
        "/user_account",
        "org_read",
        frozenset({"user_accounts:read"}),
        get_user_account,
    ),
)
