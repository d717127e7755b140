"""Issues, refreshes and checks tokens."""

import base64
import secrets
import sqlite3
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from deploy.simulator.calls import ApiOperation, Call, CallAnswer, User
from deploy.simulator.errors import (
    AUTHENTICATION_FAILED,
    SCOPE_MISSING,
    RefusedCall,
    invalid,
    refuse,
)
from deploy.simulator.users import find_app_owner

REFRESH_TOKEN_EXPIRED = 28
GRANT_INVALID = 283


def split_scopes(text: str) -> frozenset[str]:
    """Splits at commas and spaces: the consent page uses the former, tokens the latter."""
    return frozenset(text.replace(",", " ").split())


def join_scopes(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))


def authenticate(
    database: sqlite3.Connection, operation: ApiOperation, header: str, now: float
) -> User:
    """Returns the user of a bearer token that has the operation's scopes."""
    scheme, _, token = header.partition(" ")
    row = database.execute(
        "select t.*, u.username from tokens t join users u on u.id = t.user_id"
        " where access_token = ? and revoked_at is null and access_expires_at > ?",
        (token.strip(), now),
    ).fetchone()
    if scheme.lower() != "bearer" or row is None:
        raise refuse(AUTHENTICATION_FAILED)
    if row["first_used_at"] is None:
        _record_first_use(database, row, now)
    user = User(row["user_id"], row["username"], split_scopes(row["scopes"]))
    if missing := (operation.scopes or frozenset()) - user.scopes:
        raise RefusedCall(401, SCOPE_MISSING, f"Authorization failed. Missing: {sorted(missing)}")
    return user


def _record_first_use(database: sqlite3.Connection, row: sqlite3.Row, now: float) -> None:
    """Ends the refresh token that this access token was exchanged for."""
    database.execute("update tokens set first_used_at = ? where number = ?", (now, row["number"]))
    database.execute(
        "update tokens set refresh_ended_at = coalesce(refresh_ended_at, ?) where number = ?",
        (now, row["previous"]),
    )


def create_code(
    database: sqlite3.Connection, user_id: str, redirect_uri: str, scopes: str, expires_at: float
) -> str:
    code = secrets.token_hex(20)
    database.execute(
        "insert into codes values (?, ?, ?, ?, ?, null)",
        (code, user_id, redirect_uri, join_scopes(split_scopes(scopes)), expires_at),
    )
    return code


def request_token(call: Call) -> CallAnswer:
    """Answers POST /oauth/token."""
    _authenticate_app(call)
    form = _read_form(call)
    match form.get("grant_type"):
        case "authorization_code":
            return _exchange_code(call, form)
        case "refresh_token":
            return _refresh(call, form)
        case "client_credentials":
            scopes = split_scopes(_require(form, "scope"))
            if not scopes:
                raise invalid("scope is empty")
            return _issue(call, find_app_owner(call.database), "client_credentials", scopes)
        case _:
            raise invalid("grant_type is not supported")


def _authenticate_app(call: Call) -> None:
    scheme, _, credentials = call.headers.get("authorization", "").partition(" ")
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        text = ""
    if scheme.lower() != "basic" or text != f"{call.options.app_id}:{call.options.app_secret}":
        raise refuse(AUTHENTICATION_FAILED)


def _read_form(call: Call) -> dict[str, str]:
    media_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise RefusedCall(415, 415, "Content-Type must be application/x-www-form-urlencoded")
    try:
        return dict(parse_qsl(call.body.decode(), keep_blank_values=True))
    except ValueError:
        raise invalid("the body is not a form") from None


def _require(form: Mapping[str, str], name: str) -> str:
    if name not in form:
        raise invalid(f"{name} is missing")
    return form[name]


def grant_invalid() -> RefusedCall:
    return RefusedCall(401, GRANT_INVALID, "The authorization grant is invalid")


def _exchange_code(call: Call, form: Mapping[str, str]) -> CallAnswer:
    code, redirect_uri = _require(form, "code"), _require(form, "redirect_uri")
    row = call.database.execute(
        "update codes set used_at = ? where code = ? and redirect_uri = ? and used_at is null"
        " and expires_at > ? returning *",
        (call.now, code, redirect_uri, call.now),
    ).fetchone()
    if row is None:
        raise grant_invalid()
    scopes = split_scopes(row["scopes"])
    return _issue(call, row["user_id"], "authorization_code", scopes, is_refreshable=True)


def _refresh(call: Call, form: Mapping[str, str]) -> CallAnswer:
    row = call.database.execute(
        "select * from tokens where refresh_token = ? and refresh_ended_at is null"
        " and revoked_at is null",
        (_require(form, "refresh_token"),),
    ).fetchone()
    if row is None:
        raise grant_invalid()
    if row["refresh_expires_at"] <= call.now:
        raise RefusedCall(401, REFRESH_TOKEN_EXPIRED, "The refresh token is expired.")
    granted = split_scopes(row["scopes"])
    scopes = split_scopes(form["scope"]) if form.get("scope") else granted
    if not scopes <= granted:
        raise invalid("scope has rights that were not granted")
    if call.settings.single_use:
        call.database.execute(
            "update tokens set refresh_ended_at = ? where number = ?", (call.now, row["number"])
        )
    return _issue(
        call,
        row["user_id"],
        "refresh_token",
        scopes,
        is_refreshable=True,
        previous=row["number"],
    )


def _issue(
    call: Call,
    user_id: str,
    grant_type: str,
    scopes: frozenset[str],
    *,
    is_refreshable: bool = False,
    previous: int | None = None,
) -> CallAnswer:
    access_seconds = call.settings.access_token_seconds
    refresh_seconds = call.settings.refresh_token_seconds
    document: dict[str, Any] = {
        "response_type": grant_type,
        "access_token": f"pina_{secrets.token_hex(30)}",
        "token_type": "bearer",
        "expires_in": access_seconds,
        "scope": join_scopes(scopes),
    }
    if is_refreshable:
        document |= {
            "refresh_token": f"pinr_{secrets.token_hex(30)}",
            "refresh_token_expires_in": refresh_seconds,
            "refresh_token_expires_at": int(call.now) + refresh_seconds,
        }
    call.database.execute(
        "insert into tokens (user_id, grant_type, scopes, access_token, access_expires_at,"
        " refresh_token, refresh_expires_at, previous, issued_at)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            user_id,
            grant_type,
            document["scope"],
            document["access_token"],
            call.now + access_seconds,
            document.get("refresh_token"),
            document.get("refresh_token_expires_at"),
            previous,
            call.now,
        ),
    )
    return CallAnswer(200, document)


OPERATIONS = (ApiOperation("oauth/token", "POST", "/oauth/token", "org_read", None, request_token),)
