"""The documents name only what exists, and their links lead somewhere."""

import re
from collections import Counter
from pathlib import Path

import pytest

from deploy.local.layout import CHECKOUT

DOCUMENTS = sorted(
    path
    for path in (
        *CHECKOUT.glob("*.md"),
        *CHECKOUT.glob("docs/**/*.md"),
        *CHECKOUT.glob(".github/**/*.md"),
        CHECKOUT / "deploy/README.md",
    )
)
LIVE = [
    path
    for path in DOCUMENTS
    if "\n- Status: superseded by" not in path.read_text(encoding="utf-8")
]
"""The documents that are true of the code now. A superseded ADR keeps the names of its time."""
FOLDERS_OF_CODE = ("services", "shared", "deploy", "tests")
CODE = [
    path
    for folder in FOLDERS_OF_CODE
    for pattern in ("*.py", "*.yml", "Caddyfile", "*.html")
    for path in (CHECKOUT / folder).rglob(pattern)
] + [CHECKOUT / name for name in ("Makefile", "docker-compose.yml", "pyproject.toml")]
PATH = re.compile(r"(?<![\w./-])(?:services|shared|deploy|docs|tests)(?:/[\w-]+)+(?:\.\w+)*")
PAGE = re.compile(r"(?<![\w./-])(?:docs(?:/[\w-]+)*/[\w-]+\.md|[A-Z]+\.md|deploy/README\.md)")
MODULE = re.compile(r"`(?:[\w-]+/)*(\w+\.py)`")
NAME = re.compile(r"`([a-z]+(?:_[a-z]+)+)`")
"""A name of code: words in lower case with underscores, in backticks."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
WORDS = {word for path in CODE for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
SHOWN = ("::test_", "make chaos", "make kills", "the tests named there", "the same")
FOLDERS = {"A": "acceptance", "I": "integration", "U": "unit"}
FAILURE = CHECKOUT / "docs" / "explanation" / "failure.md"
NAMED = re.findall(
    r"`([AIU])/([\w/]+\.py)::(test_\w+)`",
    FAILURE.read_text(encoding="utf-8"),
)


@pytest.mark.parametrize(("folder", "file", "test"), NAMED)
def test_every_test_that_the_failure_document_names_is_there(
    folder: str, file: str, test: str
) -> None:
    assert f"def {test}(" in (CHECKOUT / "tests" / FOLDERS[folder] / file).read_text(
        encoding="utf-8"
    )


def test_every_row_of_the_failure_document_names_what_shows_it() -> None:
    lines = FAILURE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) > 20
    for row in rows:
        shown_by = row.rstrip(" |").rsplit(" | ", 1)[1]
        assert any(shown in shown_by for shown in SHOWN), row


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    links = LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8")))
    local = [link for link in links if ":" not in link.partition("/")[0]]
    assert [link for link in local if not leads_somewhere(document, link)] == []


@pytest.mark.parametrize("document", LIVE, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [path for path in PATH.findall(text) if not is_there(path)]
    modules = {
        path.name for folder in FOLDERS_OF_CODE for path in (CHECKOUT / folder).rglob("*.py")
    }
    assert missing + [name for name in MODULE.findall(text) if name not in modules] == []


@pytest.mark.parametrize("document", LIVE, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_name_in_code_font_is_in_the_code(document: Path) -> None:
    """Fields, codes, log events, columns and tables that a document names, such as `run_at`."""
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    names = {name.removesuffix("_total") for name in NAME.findall(text)}  # Prometheus adds it
    assert sorted(names - WORDS - {"pg_dump"}) == []


def test_every_page_that_code_names_is_there() -> None:
    named = {
        (str(path.relative_to(CHECKOUT)), page)
        for path in CODE
        for page in PAGE.findall(path.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert [where for where in named if not (CHECKOUT / where[1]).exists()] == []


def test_the_index_names_every_page() -> None:
    index = CHECKOUT / "docs" / "README.md"
    listed = {
        (index.parent / link.partition("#")[0]).resolve()
        for link in LINK.findall(index.read_text(encoding="utf-8"))
    }
    pages = {path for path in (CHECKOUT / "docs").rglob("*.md") if path.parent.name != "decisions"}
    assert pages - {index} - listed == set()


def test_the_glossary_has_at_most_forty_terms() -> None:
    text = (CHECKOUT / "docs/glossary.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    terms = [row[0] for row in rows if row[0] != "term"]
    assert len(terms) == len(set(terms)) <= 40
    assert all(len(row) == 3 for row in rows)


def leads_somewhere(document: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not anchor or target.suffix != ".md":
        return target.exists()
    return target.exists() and anchor in anchors(target)


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(anchor if not seen[anchor] else f"{anchor}-{seen[anchor]}")
        seen[anchor] += 1
    return found


def is_there(path: str) -> bool:
    """Finds a path, or a decision by its number alone: docs/decisions/0023."""
    folder, _, name = path.rpartition("/")
    return (CHECKOUT / path).exists() or (
        folder == "docs/decisions" and any((CHECKOUT / folder).glob(f"{name}-*.md"))
    )
