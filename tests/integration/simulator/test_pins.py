"""The simulator makes, lists, changes and deletes pins, and refuses what Pinterest refuses."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.simulator.videos import create_video, register_video
from tests.support.simulator import Simulator

pytestmark = pytest.mark.processes

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()
IMAGE = {"source_type": "image_url", "url": "https://pictures.example/lamp.jpg"}
BASE64_IMAGE = {"source_type": "image_base64", "content_type": "image/png", "data": PNG}
UNKNOWN_ID = "1" * 18


@pytest.fixture(scope="module", autouse=True)
def _no_rate_limits(simulator: Simulator) -> None:
    simulator.change_settings(buckets=False)


@pytest.fixture(scope="module")
def token(simulator: Simulator) -> str:
    return str(simulator.get_token()["access_token"])


@pytest.fixture
def board(simulator: Simulator, token: str) -> str:
    """Creates an empty board of rosa."""
    answer = simulator.call("POST", "/boards", token, json={"name": "Lamps"})
    return str(answer.json()["id"])


def pin_of(board: str, **changes: Any) -> dict[str, Any]:
    return {"board_id": board, "title": "Lamp", "media_source": IMAGE, **changes}


def create_pins(simulator: Simulator, token: str, board: str, count: int) -> list[str]:
    """Creates pins and returns their ids, the newest first."""
    answers = [
        simulator.call("POST", "/pins", token, json=pin_of(board, title=f"Lamp {number}"))
        for number in range(count)
    ]
    return [answer.raise_for_status().json()["id"] for answer in answers][::-1]


def read_pages(
    simulator: Simulator, token: str, path: str, **query: Any
) -> list[list[dict[str, Any]]]:
    pages = []
    while True:
        page = simulator.call("GET", path, token, params=query).raise_for_status().json()
        pages.append(page["items"])
        if page["bookmark"] is None:
            return pages
        query["bookmark"] = page["bookmark"]


def ids_of(pages: list[list[dict[str, Any]]]) -> list[str]:
    return [pin["id"] for page in pages for pin in page]


def test_a_pin_is_made_and_read(simulator: Simulator, token: str, board: str) -> None:
    texts = {
        "description": "A lamp for the desk",
        "alt_text": "A brass lamp",
        "link": "https://shop.example/lamp#x",
        "dominant_color": "#6E7874",
    }
    created = simulator.call("POST", "/pins", token, json=pin_of(board, **texts))

    assert created.status_code == 201
    pin = created.json()
    assert {name: pin[name] for name in ("title", *texts)} == {"title": "Lamp", **texts}
    assert pin["board_id"] == board
    assert len(pin["created_at"]) == len("2021-06-08T09:37:30")
    assert pin["media"]["media_type"] == "image"
    assert IMAGE["url"] not in created.text
    assert simulator.call("GET", f"/pins/{pin['id']}", token).json() == pin


def test_the_log_has_every_pin_also_deleted_ones(
    simulator: Simulator, token: str, board: str
) -> None:
    pins = create_pins(simulator, token, board, 2)
    assert simulator.call("DELETE", f"/pins/{pins[0]}", token).status_code == 204

    log = simulator.control("GET", "pins", board_id=board)
    assert [pin["id"] for pin in log] == pins[::-1]
    assert [pin["title"] for pin in log] == ["Lamp 0", "Lamp 1"]
    assert {pin["account_id"] for pin in log} == {simulator.list_accounts()[0]["id"]}
    assert [bool(pin["deleted_at"]) for pin in log] == [False, True]
    simulator.call("DELETE", f"/boards/{board}", token)
    assert len(simulator.control("GET", "pins", board_id=board)) == 2


def test_lists_have_pages_with_the_newest_pin_first(
    simulator: Simulator, token: str, board: str
) -> None:
    pins = create_pins(simulator, token, board, 5)

    pages = read_pages(simulator, token, f"/boards/{board}/pins", page_size=2)
    assert [len(page) for page in pages] == [2, 2, 1]
    assert ids_of(pages) == pins
    assert ids_of(read_pages(simulator, token, "/pins", page_size=250))[:5] == pins


def test_the_pins_of_a_board_include_those_of_its_sections(
    simulator: Simulator, token: str, board: str
) -> None:
    answer = simulator.call("POST", f"/boards/{board}/sections", token, json={"name": "Desk"})
    section = answer.json()["id"]
    body = pin_of(board, board_section_id=section)
    pin = simulator.call("POST", "/pins", token, json=body).json()

    assert pin["board_section_id"] == section
    assert ids_of(read_pages(simulator, token, f"/boards/{board}/pins")) == [pin["id"]]


def test_a_pin_of_a_deleted_board_is_gone(simulator: Simulator, token: str, board: str) -> None:
    (pin,) = create_pins(simulator, token, board, 1)
    simulator.call("DELETE", f"/boards/{board}", token)

    answer = simulator.call("GET", f"/pins/{pin}", token)
    assert (answer.status_code, answer.json()["code"]) == (404, 50)
    assert pin not in ids_of(read_pages(simulator, token, "/pins", page_size=250))


def test_an_image_can_come_as_base64(simulator: Simulator, token: str, board: str) -> None:
    body = pin_of(board, media_source=BASE64_IMAGE)
    assert simulator.call("POST", "/pins", token, json=body).status_code == 201


def test_a_carousel_has_an_image_for_each_item(
    simulator: Simulator, token: str, board: str
) -> None:
    items = [{"title": f"Lamp {number}", "url": IMAGE["url"]} for number in (1, 2)]
    source = {"source_type": "multiple_image_urls", "items": items}
    pin = simulator.call("POST", "/pins", token, json=pin_of(board, media_source=source)).json()

    assert pin["creative_type"] == "CAROUSEL"
    assert [item["title"] for item in pin["media"]["items"]] == ["Lamp 1", "Lamp 2"]


def test_a_video_that_was_processed_makes_a_pin(
    simulator: Simulator, token: str, board: str
) -> None:
    source = {
        "source_type": "video_id",
        "media_id": create_video(simulator, token),
        "cover_image_url": IMAGE["url"],
    }
    pin = simulator.call("POST", "/pins", token, json=pin_of(board, media_source=source)).json()
    assert (pin["creative_type"], pin["media"]["media_type"]) == ("VIDEO", "video")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"board_id": None}, 400, 1),
        ({"board_id": "spring-lamps"}, 400, 1),
        ({"board_id": "١٢٣"}, 400, 1),
        ({"board_id": UNKNOWN_ID}, 404, 40),
        ({"board_section_id": UNKNOWN_ID}, 404, 2031),
        ({"parent_pin_id": UNKNOWN_ID}, 404, 50),
        ({"sponsor_id": UNKNOWN_ID}, 401, 3),
        ({"media_source": None}, 400, 1),
        ({"media_source": {"source_type": "file"}}, 400, 1),
        ({"media_source": {"source_type": "image_url", "url": "lamp.jpg"}}, 400, 1),
        ({"media_source": {"source_type": "image_url", "url": "http://[x/"}}, 400, 1),
        ({"media_source": {**BASE64_IMAGE, "data": "="}}, 400, 1),
        ({"media_source": {**BASE64_IMAGE, "content_type": "image/gif"}}, 400, 1),
        ({"media_source": {**BASE64_IMAGE, "content_type": "image/jpeg"}}, 403, 235),
        ({"media_source": {"source_type": "multiple_image_urls", "items": [IMAGE]}}, 400, 1),
        ({"media_source": {"source_type": "pin_url"}}, 401, 3),
        ({"title": "x" * 101}, 400, 1),
        ({"description": "x" * 801}, 400, 1),
        ({"alt_text": "x" * 501}, 400, 1),
        ({"link": "https://shop.example/" + "x" * 2048}, 400, 1),
        ({"link": "shop"}, 400, 1),
        ({"title": 5}, 400, 1),
    ],
)
def test_a_pin_that_pinterest_refuses_is_not_made(
    simulator: Simulator,
    token: str,
    board: str,
    changes: Mapping[str, Any],
    status: int,
    code: int,
) -> None:
    answer = simulator.call("POST", "/pins", token, json=pin_of(board, **changes))

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert simulator.control("GET", "pins", board_id=board) == []


@pytest.mark.parametrize("missing", ["board_id", "media_source"])
def test_a_pin_needs_a_board_and_a_medium(
    simulator: Simulator, token: str, board: str, missing: str
) -> None:
    body = pin_of(board)
    del body[missing]
    answer = simulator.call("POST", "/pins", token, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 1)


def test_a_video_needs_a_cover_and_must_be_processed(
    simulator: Simulator, token: str, board: str
) -> None:
    without_cover = {"source_type": "video_id", "media_id": create_video(simulator, token)}
    not_uploaded = {
        "source_type": "video_id",
        "media_id": register_video(simulator, token)["media_id"],
        "cover_image_key_frame_time": 1,
    }
    for source, text in ((without_cover, "cover image"), (not_uploaded, "registered")):
        answer = simulator.call("POST", "/pins", token, json=pin_of(board, media_source=source))
        assert answer.status_code == 400
        assert text in answer.json()["message"]


def test_boards_and_pins_of_another_user_are_refused(
    simulator: Simulator, token: str, board: str
) -> None:
    (pin,) = create_pins(simulator, token, board, 1)
    other = simulator.get_token("tom")["access_token"]

    for answer in (
        simulator.call("POST", "/pins", other, json=pin_of(board)),
        simulator.call("GET", f"/pins/{pin}", other),
        simulator.call("DELETE", f"/pins/{pin}", other),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, 29)


def test_a_trial_app_makes_boards_but_no_pins(simulator: Simulator, token: str) -> None:
    simulator.change_settings(access="trial")
    try:
        board = simulator.call("POST", "/boards", token, json={"name": "Lamps"}).json()["id"]
        answer = simulator.call("POST", "/pins", token, json=pin_of(board))
    finally:
        simulator.change_settings(access="standard")
    assert (answer.status_code, answer.json()["code"]) == (403, 29)
    assert "Apps with Trial access may not create Pins" in answer.json()["message"]


def test_few_apps_may_change_pins(simulator: Simulator, token: str, board: str) -> None:
    (pin,) = create_pins(simulator, token, board, 1)
    refused = simulator.call("PATCH", f"/pins/{pin}", token, json={"title": "Vase"})
    simulator.change_settings(pin_updates=True)
    changed = simulator.call("PATCH", f"/pins/{pin}", token, json={"title": "Vase"})

    assert (refused.status_code, refused.json()["code"]) == (401, 3)
    assert changed.json()["title"] == "Vase"
    assert changed.json()["board_id"] == board


def test_a_deleted_pin_is_not_found(simulator: Simulator, token: str, board: str) -> None:
    (pin,) = create_pins(simulator, token, board, 1)
    simulator.call("DELETE", f"/pins/{pin}", token)
    for method in ("GET", "DELETE"):
        assert simulator.call(method, f"/pins/{pin}", token).json()["code"] == 50


def test_pins_need_scopes(simulator: Simulator) -> None:
    token = simulator.get_token(scopes="boards:read,pins:read")["access_token"]
    answer = simulator.call("POST", "/pins", token, json=pin_of(UNKNOWN_ID))
    assert (answer.status_code, answer.json()["code"]) == (401, 3)
    assert "pins:write" in answer.json()["message"]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("unreachable.jpg", 400, 1), ("too-small.png", 403, 233), ("broken.jpg", 403, 235)],
)
def test_the_name_of_an_image_says_why_it_is_refused(
    simulator: Simulator, token: str, board: str, name: str, status: int, code: int
) -> None:
    source = {"source_type": "image_url", "url": f"https://cdn.shop.example/{name}?size=large"}
    pin = {**pin_of(board), "media_source": source}
    answer = simulator.call("POST", "/pins", token, json=pin)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert simulator.control("GET", "pins", board_id=board) == []


def test_the_log_finds_a_pin_by_its_id(simulator: Simulator, token: str, board: str) -> None:
    made = [simulator.call("POST", "/pins", token, json=pin_of(board)).json() for _ in range(2)]
    (found,) = simulator.control("GET", "pins", id=made[1]["id"])
    assert found["id"] == made[1]["id"]
