"""What is generated is committed as it would be generated now: `make schemas` mends a failure here."""

from pathlib import Path

import pytest

from deploy.schemas import ROOT, generated

FILES = generated()


@pytest.mark.parametrize("path", sorted(FILES), ids=str)
def test_a_generated_file_is_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == FILES[path]


def test_no_schema_is_left_of_an_event_that_is_gone() -> None:
    assert {path.relative_to(ROOT) for path in (ROOT / "docs/events").glob("*.json")} <= set(FILES)
