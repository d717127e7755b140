"""The names of fields: aliases and slips."""

import re
from pathlib import Path

import pytest

from shared.contract.field_names import ALIASES, find_alias, normalize_name, suggest_field
from shared.contract.pins import PinSubmission

FIELDS = frozenset(PinSubmission.model_fields)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("run_At", "run_at"),
        ("runAt", "run_at"),
        ("RUN-AT", "run_at"),
        ("imageUrl", "image_url"),
        ("Titel", "title"),
        ("tile", "title"),
        ("titles", "title"),
        ("tltle", "title"),
        ("bord_id", "board_id"),
        ("idempotencykey", "idempotency_key"),
        ("ttile", "title"),
        ("Publish dates", "run_at"),
        ("Destination-Lnk", "link_url"),
    ],
)
def test_a_slip_suggests_its_field(name: str, field: str) -> None:
    assert suggest_field(name, FIELDS) == field


@pytest.mark.parametrize(
    "name",
    [
        "",
        "line",
        "status",
        "pin_id",
        "price",
        "runtime",
        "tit",
        "title_id",
        "deadline",
        "t" * 10_000,
    ],
)
def test_a_different_name_suggests_nothing(name: str) -> None:
    assert suggest_field(name, FIELDS) is None


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("Media URL", "image_url"),
        ("Pinterest board", "board_id"),
        ("Thumbnail", "cover_image_url"),
        ("Link", "link_url"),
        ("Publish date", "run_at"),
        ("Keywords", "related_terms"),
        ("link", "link_url"),
    ],
)
def test_the_columns_of_pinterests_template_are_aliases(name: str, field: str) -> None:
    assert find_alias(name) == field


@pytest.mark.parametrize(
    "name", ["line", "status", "pin_id", "schedule_id", "error_code", "error_message"]
)
def test_the_columns_of_a_results_file_are_neither_aliases_nor_slips(name: str) -> None:
    assert find_alias(name) is None
    assert suggest_field(name, FIELDS) is None


def test_the_guide_lists_every_alias() -> None:
    guide = Path("docs/how-to/import-a-spreadsheet.md").read_text(encoding="utf-8")
    section = guide.split("### Other names of columns")[1].split("\n#")[0]
    listed = {
        normalize_name(name): field
        for field, names in re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)
        for name in names.split(", ")
    }
    assert listed == ALIASES
