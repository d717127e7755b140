"""Writes campaign.csv: python -m deploy.demo.make_campaign.

Account and board ids differ between workspaces, so the file has placeholders: ACCOUNT_1, ACCOUNT_2
and BOARD_1_1 (the first board of ACCOUNT_1) to BOARD_2_5. `make demo` replaces them with real ids.
"""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

CAMPAIGN = Path(__file__).with_name("campaign.csv")
ROWS = 500
ACCOUNTS, BOARDS = 2, 5

COLUMNS = (
    "account_id",
    "board_id",
    "title",
    "description",
    "alt_text",
    "link_url",
    "image_url",
    "related_terms",
    "dominant_color",
    "run_at",
    "idempotency_key",
)
Row = dict[str, str]

ROOMS = (
    "living room",
    "hallway",
    "kitchen",
    "reading corner",
    "balcony",
    "study",
    "bedroom",
    "workshop",
)
THINGS = (
    "floor lamp",
    "oak shelf",
    "wool throw",
    "stoneware vase",
    "linen curtain",
    "side table",
    "wall mirror",
    "jute rug",
    "desk clock",
)
COLORS = ("#C2410C", "#365314", "#1E3A8A", "#78350F", "#0F766E")

MISTAKES: dict[int, Row] = {
    41: {"title": ""},
    87: {"board_id": "700000000000000000"},
    133: {"run_at": "2031-04-01T09:00:00"},
    178: {"dominant_color": "terracotta"},
    222: {"account_id": "7d5bd1f0-3f7e-4c9e-8a57-0d1f5d6f9a10"},
    267: {"image_url": "cdn.shop.example/without-scheme.jpg"},
    311: {
        "title": (
            "A title that someone pasted from the product page, with all of its selling points, "
            "far past what Pinterest shows"
        )
    },
    356: {"image_url": ""},
    402: {"account_id": "second account"},
    447: {"idempotency_key": ""},
}
"""The invalid values by row number. All other rows are valid."""
REFUSED_IMAGES = {55: "broken", 255: "too-small", 345: "unreachable"}
"""Rows that are valid, but whose images the simulator of Pinterest refuses, by the file's name."""
REPEATED = {500: 1}
"""Rows that repeat an earlier row: they are `existing` and not published twice."""


def fill_campaign(accounts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Fills a workspace's ids into the campaign: account ids, each with its board ids."""
    text = CAMPAIGN.read_text(encoding="utf-8")
    for number, (account_id, board_ids) in enumerate(accounts, 1):
        text = text.replace(f"ACCOUNT_{number},", f"{account_id},")
        for position, board_id in enumerate(board_ids, 1):
            text = text.replace(f"BOARD_{number}_{position},", f"{board_id},")
    return text


def build_campaign() -> str:
    """Builds the text of campaign.csv."""
    rows = [_row(number) for number in range(1, ROWS + 1)]
    for number, first in REPEATED.items():
        rows[number - 1] = rows[first - 1]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(number: int) -> Row:
    thing, room = THINGS[number % len(THINGS)], ROOMS[number % len(ROOMS)]
    a_thing = f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"
    slug = f"{thing.replace(' ', '-')}-{number:03}"
    account, board = number % ACCOUNTS + 1, number % BOARDS + 1
    row = {
        "account_id": f"ACCOUNT_{account}",
        "board_id": f"BOARD_{account}_{board}",
        "title": f"{thing.capitalize()} for the {room}, no. {number}",
        "description": (
            f'Autumn collection: {a_thing} that makes the {room} a place to stay. "Made to last," '
            "says the workshop."
        ),
        "alt_text": f"{a_thing.capitalize()} in a {room}",
        "link_url": f"https://shop.example/autumn/{slug}?utm_source=pinterest&utm_campaign=autumn",
        "image_url": f"https://cdn.shop.example/autumn/{REFUSED_IMAGES.get(number, slug)}.jpg",
        "related_terms": f"{thing}, {room}, autumn decor",
        "dominant_color": COLORS[number % len(COLORS)],
        "run_at": _run_at(number),
        "idempotency_key": f"autumn-{slug}",
    }
    return row | MISTAKES.get(number, {})


def _run_at(number: int) -> str:
    """Returns the row's `run_at`, empty for most rows.

    Every 50th row has a time in the future. Every 70th has a time in the past: such a row is
    published at once.
    """
    schedules: tuple[tuple[int, Callable[[int], str]], ...] = (
        (50, lambda n: f"2031-03-{n // 50 + 1:02}T08:30:00+01:00"),
        (70, lambda _: "2026-09-01T08:30:00+02:00"),
    )
    return next(
        (format_time(number) for every, format_time in schedules if number % every == 0), ""
    )


if __name__ == "__main__":
    CAMPAIGN.write_text(build_campaign(), encoding="utf-8")
