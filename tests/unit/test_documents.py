"""What the documents name is there."""

import re
from pathlib import Path

import pytest

from deploy.local.layout import CHECKOUT

LIVE = [
    path
    for path in (
        *CHECKOUT.glob("*.md"),
        *CHECKOUT.glob("docs/**/*.md"),
        CHECKOUT / "deploy/README.md",
    )
    if path.parent.name != "decisions"
]
"""The documents that are true of the code now. An ADR keeps the names of its time."""
PATH = re.compile(r"(?<![\w./-])(?:services|shared|deploy|docs|tests)(?:/[\w-]+)+(?:\.\w+)*")
MODULE = re.compile(r"`(?:[\w-]+/)*(\w+\.py)`")
FOLDERS_OF_CODE = ("services", "shared", "deploy", "tests")
SHOWN = ("::test_", "make chaos", "make kills", "the tests named there", "the same")
FOLDERS = {"A": "acceptance", "I": "integration", "U": "unit"}
NAMED = re.findall(
    r"`([AIU])/([\w/]+\.py)::(test_\w+)`",
    (CHECKOUT / "docs" / "explanation" / "failure.md").read_text(encoding="utf-8"),
)


@pytest.mark.parametrize(("folder", "file", "test"), NAMED)
def test_every_test_that_the_failure_document_names_is_there(
    folder: str, file: str, test: str
) -> None:
    assert f"def {test}(" in (CHECKOUT / "tests" / FOLDERS[folder] / file).read_text(
        encoding="utf-8"
    )


def test_every_row_of_the_failure_document_names_what_shows_it() -> None:
    lines = (
        (CHECKOUT / "docs" / "explanation" / "failure.md").read_text(encoding="utf-8").splitlines()
    )
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) > 20
    for row in rows:
        shown_by = row.rstrip(" |").rsplit(" | ", 1)[1]
        assert any(shown in shown_by for shown in SHOWN), row


@pytest.mark.parametrize(
    "document",
    [*(CHECKOUT / "docs").rglob("*.md"), *CHECKOUT.glob("*.md")],
    ids=lambda path: path.name,
)
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", LIVE, ids=lambda path: path.name)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [path for path in PATH.findall(text) if not is_there(path)]
    modules = {
        path.name for folder in FOLDERS_OF_CODE for path in (CHECKOUT / folder).rglob("*.py")
    }
    assert missing + [name for name in MODULE.findall(text) if name not in modules] == []


def is_there(path: str) -> bool:
    """Finds a path, or a decision by its number alone: docs/decisions/0023."""
    folder, _, name = path.rpartition("/")
    return (CHECKOUT / path).exists() or (
        folder == "docs/decisions" and any((CHECKOUT / folder).glob(f"{name}-*.md"))
    )
