"""Hooks that schemathesis loads: they fill in existing boards, pins, tokens and images.

The description cannot name these. Malformed values stay.
"""

import base64
import os
import re
from typing import Any
from urllib.parse import urlencode

import httpx
import schemathesis

from tests.support.simulator import APP_ID, APP_SECRET

URL, TOKEN, REFRESH_TOKEN = (
    os.environ[f"CONTRACT_{name}"] for name in ("URL", "TOKEN", "REFRESH_TOKEN")
)
BOARD, SECTION, PIN, VIDEO = (
    os.environ[f"CONTRACT_{name}"] for name in ("BOARD", "SECTION", "PIN", "VIDEO")
)
DIGITS = re.compile(r"[0-9]+")
BASE64 = re.compile(r"[a-zA-Z0-9+/=]+")
IMAGES = {
    "image/png": base64.b64encode(b"\x89PNG\r\n\x1a\n").decode(),
    "image/jpeg": base64.b64encode(b"\xff\xd8\xff").decode(),
}
WEB_ADDRESS = "https://pictures.example/lamp.jpg"
ID_DIGITS = 18
REDIRECT_URI = "http://127.0.0.1:1/callback"
IMAGE_SOURCE = {"source_type": "image_url", "url": WEB_ADDRESS}
EXISTING_IDS = {
    "board_id": BOARD,
    "board_section_id": SECTION,
    "parent_pin_id": PIN,
    "media_id": VIDEO,
}
WEB_ADDRESS_FIELDS = {"link": 2048, "url": None, "cover_image_url": None}
"""The greatest length of each field with an URL."""
CLIENT = httpx.Client(
    base_url=f"{URL}/v5", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
)


@schemathesis.auth()
class Credentials:
    """Sends the app's id and secret for POST /oauth/token, and the token otherwise."""

    def get(self, case: Any, _context: Any) -> str:
        if case.operation.path == "/oauth/token":
            return "Basic " + base64.b64encode(f"{APP_ID}:{APP_SECRET}".encode()).decode()
        return f"Bearer {TOKEN}"

    def set(self, case: Any, credentials: str, _context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": credentials}


@schemathesis.hook
def before_load_schema(_context: Any, description: dict[str, Any]) -> None:
    """Describes times as Pinterest sends them: seconds without a zone, which no date-time has."""
    for schema in description["components"]["schemas"].values():
        for field in schema.get("properties", {}).values():
            if field.get("format") == "date-time":
                del field["format"]
                field["pattern"] = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$"


@schemathesis.hook
def before_call(_context: Any, case: Any, _arguments: dict[str, Any]) -> None:
    """Makes well-formed requests meaningful."""
    query = case.query or {}
    if DIGITS.fullmatch(str(query.get("ad_account_id", ""))):
        del query["ad_account_id"]  # the simulator has no ad accounts
    if isinstance(query.get("bookmark"), str):
        del query["bookmark"]  # no bookmark that schemathesis makes up belongs to a page
    if case.operation.path == "/oauth/token":
        _complete_form(case.body)
    elif isinstance(case.body, dict):
        _fill_in(case.body)
        if (case.method, case.operation.path) == ("POST", "/pins"):
            _complete_pin(case.body)
        if case.operation.path in {"/boards", "/boards/{board_id}"}:
            _shorten_name(case.body)
    _name_existing(case)


def _complete_form(form: Any) -> None:
    """Adds the fields of a grant type. The description's discriminator names their schemas."""
    if not isinstance(form, dict):
        return
    match form.get("grant_type"):
        case "client_credentials":
            form.setdefault("scope", "boards:read")
        case "refresh_token":
            form["refresh_token"] = REFRESH_TOKEN
            form.pop("scope", None)
        case "authorization_code":
            form |= {"code": _consent(), "redirect_uri": REDIRECT_URI}


def _consent() -> str:
    """Lets the user allow the app to act, and returns the code."""
    parameters = {
        "client_id": APP_ID,
        "redirect_uri": REDIRECT_URI,
        "response_type": "code",
        "scope": "boards:read",
        "state": "s",
    }
    answer = CLIENT.post(
        f"{URL}/oauth/",
        content=urlencode({**parameters, "user": "rosa", "decision": "allow"}),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    return httpx.URL(answer.headers["location"]).params["code"]


def _complete_pin(pin: dict[str, Any]) -> None:
    """Adds what the description does not require, although no pin is made without it."""
    pin.setdefault("board_id", BOARD)
    pin.setdefault("media_source", IMAGE_SOURCE)
    source = pin["media_source"]
    if isinstance(source, dict) and source.get("source_type") == "video_id":
        source.setdefault("cover_image_key_frame_time", 0)


def _shorten_name(board: dict[str, Any]) -> None:
    """Gives a board a name of 1 to 180 characters, which the description requires of sections."""
    if isinstance(board.get("name"), str):
        board["name"] = board["name"][:180] or "Ideas"


def _fill_in(value: Any) -> None:
    if isinstance(value, list):
        for part in value:
            _fill_in(part)
    elif isinstance(value, dict):
        for name, part in list(value.items()):
            if name in EXISTING_IDS and _matches(DIGITS, part):
                value[name] = EXISTING_IDS[name]
            elif name in WEB_ADDRESS_FIELDS and _is_short(part, WEB_ADDRESS_FIELDS[name]):
                value[name] = WEB_ADDRESS
            elif name in {"data", "cover_image_data"} and _matches(BASE64, part, name):
                _use_an_image(value, name)
            else:
                _fill_in(part)


def _use_an_image(source: dict[str, Any], name: str) -> None:
    kind_name = "content_type" if name == "data" else "cover_image_content_type"
    if name == "cover_image_data":
        source.setdefault(kind_name, "image/png")
    source[name] = IMAGES.get(str(source.get(kind_name)), source[name])


def _matches(pattern: re.Pattern[str], value: object, name: str = "") -> bool:
    is_free_text = name == "cover_image_data"
    return isinstance(value, str) and (is_free_text or pattern.fullmatch(value) is not None)


def _is_short(value: object, maximum: int | None) -> bool:
    return isinstance(value, str) and (maximum is None or len(value) <= maximum)


def _name_existing(case: Any) -> None:
    """Names an existing resource if the generated id is well-formed and has an even length."""
    for name, value in (case.path_parameters or {}).items():
        if not isinstance(value, str) or not DIGITS.fullmatch(value) or len(value) % 2:
            continue
        if case.method == "DELETE":
            case.path_parameters[name] = _create(name)
        elif len(value) < ID_DIGITS:  # a longer one was in an answer
            case.path_parameters[name] = {"board_id": BOARD, "pin_id": PIN, "media_id": VIDEO}[name]


def _create(name: str) -> str:
    """Creates a board or a pin, for a request that deletes it."""
    if name == "board_id":
        answer = CLIENT.post("/boards", json={"name": "Ideas"})
    else:
        answer = CLIENT.post("/pins", json={"board_id": BOARD, "media_source": IMAGE_SOURCE})
    return str(answer.raise_for_status().json()["id"])
