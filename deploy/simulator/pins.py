"""Answers the operations on pins, and keeps every pin that was made."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from deploy.simulator.boards import BOARD, find_board
from deploy.simulator.calls import ApiOperation, Call, CallAnswer
from deploy.simulator.errors import (
    NOT_PERMITTED,
    TRIAL_APP,
    RefusedCall,
    refuse,
    restricted,
)
from deploy.simulator.fields import (
    make_bookmark,
    read_choice,
    read_document,
    read_page,
    read_switch,
    require_digits,
)
from deploy.simulator.media import require_video
from deploy.simulator.pin_requests import (
    ImagesBase64,
    ImageUrls,
    PinCreate,
    VideoId,
    parse_pin,
    parse_update,
)
from deploy.simulator.store import format_time, new_id

PIN_NOT_FOUND = 50
SECTION_NOT_FOUND = 2031
CREATIVE_TYPES = {"image": "REGULAR", "video": "VIDEO", "multiple_images": "CAROUSEL"}
ALL_CREATIVE_TYPES = (
    "REGULAR",
    "VIDEO",
    "SHOPPING",
    "CAROUSEL",
    "MAX_VIDEO",
    "SHOP_THE_PIN",
    "COLLECTION",
    "IDEA",
    "SHOWCASE",
    "QUIZ",
    "COLLAGE",
    "MAX_WIDTH_REGULAR_COLLECTION",
    "MAX_WIDTH_VIDEO_COLLECTION",
)
RENDITIONS = {
    "150x150": (150, 150),
    "400x300": (400, 300),
    "600x": (600, 900),
    "1200x": (1000, 1500),
}
"""Width and height of the images of a pin, by the name of their size."""
POSITIONS = 2**53
READ = frozenset({"boards:read", "pins:read"})
WRITE = READ | {"boards:write", "pins:write"}

LIVE = "p.deleted_at is null and exists (select 1 from boards b where b.id = p.board_id)"


def create_pin(call: Call) -> CallAnswer:
    pin = parse_pin(read_document(call))
    if call.settings.access == "trial":
        raise refuse(TRIAL_APP)
    if pin.sponsor_id is not None:
        raise restricted("paid partnerships")
    find_board(call, pin.board_id)
    _require_section(call, pin.board_id, pin.board_section_id)
    if pin.parent_pin_id is not None:
        find_pin(call, pin.parent_pin_id)
    if isinstance(pin.media_source, VideoId):
        require_video(call, pin.media_source.media_id)
    return CallAnswer(201, describe_pin(call, _insert(call, pin)))


def list_pins(call: Call) -> CallAnswer:
    """Answers GET /pins. The filters for promoted and saved pins leave nothing out."""
    read_choice(call.query, "pin_filter", ("exclude_native", "exclude_repins", "has_been_promoted"))
    read_choice(call.query, "pin_type", ("PRIVATE",))
    read_switch(call.query, "include_protected_pins")
    return _list(call, "user_id", call.user.id)


def list_pins_of_board(call: Call) -> CallAnswer:
    """Answers GET /boards/{board_id}/pins, with the pins of its sections."""
    board = find_board(call, call.path["board_id"])
    return _list(call, "board_id", board["id"])


def get_pin(call: Call) -> CallAnswer:
    read_switch(call.query, "pin_metrics")
    return CallAnswer(200, describe_pin(call, find_pin(call, call.path["pin_id"])))


def update_pin(call: Call) -> CallAnswer:
    changes = parse_update(read_document(call))
    if not call.settings.pin_updates:
        raise restricted("changes of pins")
    pin = find_pin(call, call.path["pin_id"])
    board_id = find_board(call, changes.get("board_id", pin["board_id"]))["id"]
    section_id = changes.get(
        "board_section_id", pin["section_id"] if board_id == pin["board_id"] else None
    )
    _require_section(call, board_id, section_id)
    texts = {
        name: changes.get(name, pin[name]) for name in ("title", "description", "alt_text", "link")
    }
    row = call.database.execute(
        "update pins set board_id = ?, section_id = ?, title = ?, description = ?, alt_text = ?,"
        " link = ? where id = ? returning *",
        (board_id, section_id, *texts.values(), pin["id"]),
    ).fetchone()
    return CallAnswer(200, describe_pin(call, row))


def delete_pin(call: Call) -> CallAnswer:
    pin = find_pin(call, call.path["pin_id"])
    call.database.execute("update pins set deleted_at = ? where id = ?", (call.now, pin["id"]))
    return CallAnswer(204)


def find_pin(call: Call, pin_id: str) -> sqlite3.Row:
    """Returns a pin of the user.

    Raises RefusedCall: 404 for an unknown pin, 403 for another user's.
    """
    require_digits("pin_id", pin_id)
    row = call.database.execute(
        f"select * from pins p where id = ? and {LIVE}", (pin_id,)
    ).fetchone()
    if row is None:
        raise RefusedCall(404, PIN_NOT_FOUND, "Pin not found.")
    if row["user_id"] != call.user.id:
        raise refuse(NOT_PERMITTED)
    return row  # type: ignore[no-any-return]


def read_log(
    database: sqlite3.Connection, board_id: str | None, pin_id: str | None = None
) -> list[dict[str, Any]]:
    """Returns every pin that was ever made, in order of creation: also deleted ones."""
    rows = database.execute(
        "select * from pins where (:board is null or board_id = :board)"
        " and (:pin is null or id = :pin) order by number",
        {"board": board_id, "pin": pin_id},
    )
    return [
        {
            "id": row["id"],
            "account_id": row["user_id"],
            "board_id": row["board_id"],
            "board_section_id": row["section_id"],
            "title": row["title"],
            "description": row["description"],
            "alt_text": row["alt_text"],
            "link": row["link"],
            "created_at": format_time(row["created_at"]),
            "deleted_at": row["deleted_at"] and format_time(row["deleted_at"]),
        }
        for row in rows
    ]


def describe_pin(call: Call, row: sqlite3.Row) -> dict[str, Any]:
    """Describes a pin. Its images are Pinterest's own: the URL that was sent does not come back."""
    return {
        "id": row["id"],
        "created_at": format_time(row["created_at"]),
        "board_id": row["board_id"],
        "board_section_id": row["section_id"],
        "board_owner": {"username": call.user.username},
        "title": row["title"],
        "description": row["description"],
        "alt_text": row["alt_text"],
        "link": row["link"],
        "dominant_color": row["dominant_color"],
        "parent_pin_id": row["parent_pin_id"],
        "creative_type": _creative_type(row),
        "is_owner": True,
        "is_standard": bool(row["is_standard"]),
        "has_been_promoted": False,
        "pin_metrics": None,
        "media": _describe_media(row),
    }


def _describe_media(row: sqlite3.Row) -> dict[str, Any]:
    images = _renditions(row["id"])
    match row["media_type"]:
        case "video":
            cover = images["600x"]["url"]
            sizes = {"height": 900, "width": 600, "duration": 5000.0}
            return {"media_type": "video", "cover_image_url": cover, "images": images, **sizes}
        case "multiple_images":
            items = [
                {"item_type": "image", "images": _renditions(f"{row['id']}-{number}"), **texts}
                for number, texts in enumerate(json.loads(row["media_items"]), 1)
            ]
            return {"media_type": "multiple_images", "items": items}
        case _:
            return {"media_type": "image", "images": images}


def _renditions(name: str) -> dict[str, Any]:
    return {
        size: {
            "width": width,
            "height": height,
            "url": f"https://i.pinimg.example/{size}/{name}.jpg",
        }
        for size, (width, height) in RENDITIONS.items()
    }


def _insert(call: Call, pin: PinCreate) -> sqlite3.Row:
    source = pin.media_source
    items: list[dict[str, str]] = []
    media_type = "video" if isinstance(source, VideoId) else "image"
    if isinstance(source, ImageUrls | ImagesBase64):
        media_type = "multiple_images"
        items = [
            {"title": item.title, "description": item.description, "link": item.link}
            for item in source.items
        ]
    pin_id = new_id()
    values = {
        "id": pin_id,
        "user_id": call.user.id,
        "board_id": pin.board_id,
        "section_id": pin.board_section_id,
        "title": pin.title,
        "description": pin.description,
        "alt_text": pin.alt_text,
        "link": pin.link,
        "dominant_color": pin.dominant_color,
        "parent_pin_id": pin.parent_pin_id,
        "is_standard": getattr(source, "is_standard", True),
        "media_type": media_type,
        "media_items": json.dumps(items),
        "position": int(call.faults.position(pin_id) * POSITIONS),
        "created_at": call.now,
    }
    row = call.database.execute(
        f"insert into pins ({', '.join(values)}) values ({', '.join('?' * len(values))})"
        " returning *",
        list(values.values()),
    ).fetchone()
    call.database.execute(
        "update boards set pins_modified_at = ? where id = ?", (call.now, pin.board_id)
    )
    return row  # type: ignore[no-any-return]


def _require_section(call: Call, board_id: str, section_id: str | None) -> None:
    if section_id is None:
        return
    row = call.database.execute(
        "select 1 from sections where id = ? and board_id = ?", (section_id, board_id)
    ).fetchone()
    if row is None:
        raise RefusedCall(404, SECTION_NOT_FOUND, "Board section not found.")


def _list(call: Call, owner: str, value: str) -> CallAnswer:
    """Answers a page of a list: the newest pin first, or in shuffled order."""
    read_switch(call.query, "pin_metrics")
    kinds = {
        read_choice({"creative_types": name}, "creative_types", ALL_CREATIVE_TYPES)
        for name in call.query.getlist("creative_types")
    }
    page_size, after = read_page(call)
    board_id = call.path.get("board_id")
    if call.faults.is_shuffled(call.user.id, board_id):
        page_size = call.faults.shrink_page(page_size, str(after))
        key, following, order = "position", "position > :after", "position"
    else:
        key, following, order = "number", "(:after = 0 or number < :after)", "number desc"
    cursor = call.database.execute(
        f"select * from pins p where {owner} = :value and {following} and {LIVE} order by {order}",
        {"value": value, "after": after},
    )
    visible = (row for row in cursor if not kinds or _creative_type(row) in kinds)
    rows = list(islice(_leave_out_late(call, visible), page_size + 1))
    bookmark = make_bookmark(rows[page_size - 1][key]) if len(rows) > page_size else None
    items = [describe_pin(call, row) for row in rows[:page_size]]
    return CallAnswer(200, {"items": items, "bookmark": bookmark})


def _leave_out_late(call: Call, rows: Iterable[sqlite3.Row]) -> Iterator[sqlite3.Row]:
    for row in rows:
        age_seconds = call.now - row["created_at"]
        if not call.faults.is_hidden(row["id"], row["user_id"], row["board_id"], age_seconds):
            yield row


def _creative_type(row: sqlite3.Row) -> str:
    return CREATIVE_TYPES[row["media_type"]]


PIN = "/pins/{pin_id}"
OPERATIONS = (
    ApiOperation("pins/list", "GET", "/pins", "org_read", READ, list_pins),
    ApiOperation("pins/create", "POST", "/pins", "org_write", WRITE, create_pin),
    ApiOperation("pins/get", "GET", PIN, "org_read", READ, get_pin),
    ApiOperation("pins/update", "PATCH", PIN, "org_write", WRITE, update_pin),
    ApiOperation("pins/delete", "DELETE", PIN, "org_write", WRITE, delete_pin),
    ApiOperation("boards/list_pins", "GET", f"{BOARD}/pins", "org_read", READ, list_pins_of_board),
)
