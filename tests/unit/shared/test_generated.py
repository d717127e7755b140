"""The committed generated files are up to date. Otherwise run `make schemas`."""

from pathlib import Path

import pytest

from deploy.generate.files import ROOT, build_files
from tests.support.applications import shared_document

FILES = build_files()


@pytest.mark.parametrize("path", sorted(FILES), ids=str)
def test_a_generated_file_is_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == FILES[path]


def test_every_endpoint_with_a_key_documents_401_and_403() -> None:
    operations = [
        operation for path in shared_document()["paths"].values() for operation in path.values()
    ]
    with_key = [operation for operation in operations if "security" in operation]
    assert with_key
    assert all({"401", "403"} <= operation["responses"].keys() for operation in with_key)


def test_no_schema_of_a_removed_event_is_left() -> None:
    assert {
        path.relative_to(ROOT) for path in (ROOT / "docs/reference/events").glob("*.json")
    } <= set(FILES)
