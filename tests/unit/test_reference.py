"""The pages of docs/reference have everything that the code has, and nothing else."""

import json
import re

import pytest

from deploy.generate import metrics, topics
from deploy.generate.files import OPENAPI
from deploy.local.layout import CHECKOUT
from shared.contract.errors import ErrorCode
from shared.contract.topics import TOPICS

REFERENCE = CHECKOUT / "docs/reference"
WRITING_METHODS = ("post", "put", "patch", "delete")
ENDPOINT_ROW = re.compile(r"^\| `((?:POST|PUT|PATCH|DELETE) /\S+)` \|(.*)\|$", re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


def rows_of(page: str) -> list[str]:
    return ROW.findall((REFERENCE / page).read_text(encoding="utf-8"))


def read_error_sections() -> dict[str, str]:
    """Returns the section of each error code."""
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    headings = re.split(r"^(#+ .*)$", text, flags=re.MULTILINE)[1:]
    return {
        title.removeprefix("### "): body
        for title, body in zip(headings[::2], headings[1::2], strict=True)
        if title.startswith("### ")
    }


def find_codes(pattern: str) -> set[str]:
    """Finds the codes that the source of services and shared writes in place."""
    files = (path for name in ("services", "shared") for path in (CHECKOUT / name).rglob("*.py"))
    return {
        code for path in files for code in re.findall(pattern, path.read_text(encoding="utf-8"))
    }


def read_codes(section: str) -> list[str]:
    """Returns the codes in the first column of a section's table. A row may have several."""
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    table = text.partition(f"## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return [code for cell in cells for code in re.findall(r"`(\w+)`", cell)]


def test_every_error_code_has_one_section() -> None:
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    titles = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert sorted(titles) == sorted(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_section_has_a_meaning_an_example_and_what_to_do(code: str) -> None:
    meaning, example, advice = read_error_sections()[code].strip().split("\n\n")[:3]
    assert len(meaning.split()) >= 10
    assert all(line.startswith("> ") for line in example.splitlines())
    assert advice.startswith("**What to do:** ")
    assert len(advice.split()) >= 5


def test_every_own_code_of_a_fault_has_one_row() -> None:
    own = find_codes(r'(?:PydanticCustomError|_row_fault)\(\s*"(\w+)"')
    own |= find_codes(r'Fault\(\s*code="(\w+)"')
    rows = read_codes("Codes of single faults")
    assert own - set(rows) == set()
    assert len(own) > 15
    assert len(rows) == len(set(rows))


def test_every_code_of_a_warning_has_one_row() -> None:
    codes = find_codes(r'Notice\(\s*code="(\w+)"') | find_codes(r'_build_notice\(\s*"(\w+)"')
    rows = read_codes("Codes of warnings")
    assert codes - set(rows) == set()
    assert len(codes) > 5
    assert len(rows) == len(set(rows))


def test_every_metric_has_one_row() -> None:
    assert rows_of("metrics.md") == sorted(metrics.collectors())
    assert len(metrics.collectors()) > 15


def test_every_topic_has_its_use() -> None:
    assert set(topics.TRAFFIC) == {topic.name for topic in TOPICS}


def test_every_endpoint_that_writes_has_one_row_about_repetitions() -> None:
    document = json.loads((CHECKOUT / OPENAPI).read_text(encoding="utf-8"))
    endpoints = [
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
        if method in WRITING_METHODS
    ]
    rows = ENDPOINT_ROW.findall((REFERENCE / "idempotency.md").read_text(encoding="utf-8"))
    assert sorted(endpoint for endpoint, _ in rows) == sorted(endpoints)
    for endpoint, cells in rows:
        texts = [cell.strip() for cell in cells.split("|")]
        assert len(texts) == 4, endpoint
        assert all(texts), endpoint
