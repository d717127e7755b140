"""Answers the operations on media, and takes the upload of a video.

POST /media registers a video. Its file is posted to the upload URL, without a token. Then it is
processed. A failed one never recovers.
"""

import json
import secrets
import sqlite3
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.simulator.calls import ApiOperation, Call, CallAnswer
from deploy.simulator.errors import RefusedCall, invalid
from deploy.simulator.faults import Faults
from deploy.simulator.fields import make_page, read_document, read_page, require_digits
from deploy.simulator.pin_requests import parse_media
from deploy.simulator.store import SimulatorStore, new_id, now

UPLOAD_PATH: Final = "/_uploads"
MEDIA_TYPE: Final = "video"
READ = frozenset({"pins:read"})
WRITE = READ | {"pins:write"}


def create_media(call: Call) -> CallAnswer:
    parse_media(read_document(call))
    media_id = new_id()
    parameters = {
        "x-amz-date": "20260101T000000Z",
        "x-amz-signature": secrets.token_hex(32),
        "x-amz-security-token": secrets.token_urlsafe(48),
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "key": f"uploads/{media_id}",
        "policy": secrets.token_urlsafe(48),
        "x-amz-credential": "simulator/20260101/us-east-1/s3/aws4_request",
        "Content-Type": "multipart/form-data",
    }
    call.database.execute(
        "insert into media (id, user_id, upload_parameters, created_at) values (?, ?, ?, ?)",
        (media_id, call.user.id, json.dumps(parameters), call.now),
    )
    host = call.headers.get("host") or f"{call.options.host}:{call.options.port}"
    return CallAnswer(
        201,
        {
            "media_id": media_id,
            "media_type": MEDIA_TYPE,
            "upload_url": f"http://{host}{UPLOAD_PATH}",
            "upload_parameters": parameters,
        },
    )


def list_media(call: Call) -> CallAnswer:
    page_size, after = read_page(call)
    rows = call.database.execute(
        "select * from media where user_id = ? and number > ? order by number limit ?",
        (call.user.id, after, page_size + 1),
    ).fetchall()
    return CallAnswer(200, make_page(rows, page_size, [_describe(call, row) for row in rows]))


def get_media(call: Call) -> CallAnswer:
    return CallAnswer(200, _describe(call, _find_media(call, call.path["media_id"])))


def require_video(call: Call, media_id: str) -> None:
    """Refuses a video that is unknown, or that is not processed."""
    status = _status(_find_media(call, media_id), call.now)
    if status != "succeeded":
        raise invalid(f"the video {media_id} is {status}, not succeeded")


def upload_routes(store: SimulatorStore, faults: Faults) -> list[Route]:
    async def receive(request: Request) -> Response:
        """Stores nothing of the file: only that it came, and when its processing ends."""
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile) or not file.size:
                raise HTTPException(400, "The field file is missing or empty.")
            with store.transaction() as database:
                _accept(database, faults, dict(form))
        return Response(status_code=204)

    return [Route(UPLOAD_PATH, receive, methods=["POST"])]


def _accept(database: sqlite3.Connection, faults: Faults, form: dict[str, Any]) -> None:
    media_id = str(form.get("key")).removeprefix("uploads/")
    row = database.execute("select * from media where id = ?", (media_id,)).fetchone()
    if row is None or any(
        form.get(name) != value for name, value in json.loads(row["upload_parameters"]).items()
    ):
        raise HTTPException(403, "The upload parameters differ from those of the registration.")
    seconds, fails = faults.draw_media(row["user_id"])
    database.execute(
        "update media set ready_at = ?, fails = ? where id = ? and ready_at is null",
        (now() + seconds, fails, media_id),
    )


def _find_media(call: Call, media_id: str) -> sqlite3.Row:
    require_digits("media_id", media_id)
    row = call.database.execute(
        "select * from media where id = ? and user_id = ?", (media_id, call.user.id)
    ).fetchone()
    if row is None:
        raise RefusedCall(404, 404, "Media not found.")
    return row  # type: ignore[no-any-return]


def _describe(call: Call, row: sqlite3.Row) -> dict[str, str]:
    return {
        "media_id": row["id"],
        "media_type": MEDIA_TYPE,
        "status": _status(row, call.now),
    }


def _status(row: sqlite3.Row, now: float) -> str:
    if row["ready_at"] is None:
        return "registered"
    if now < row["ready_at"]:
        return "processing"
    return "failed" if row["fails"] else "succeeded"


OPERATIONS = (
    ApiOperation("media/list", "GET", "/media", "org_read", READ, list_media),
    ApiOperation("media/create", "POST", "/media", "org_write", WRITE, create_media),
    ApiOperation("media/get", "GET", "/media/{media_id}", "org_read", READ, get_media),
)
