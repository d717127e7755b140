"""Decision records follow one template, and their README lists each with its title and status."""

import re
from datetime import date
from pathlib import Path

import pytest

from deploy.local.layout import CHECKOUT

FOLDER = CHECKOUT / "docs" / "decisions"
DECISIONS = sorted(FOLDER.glob("0*.md"))
MAX_WORDS = 300
SECTIONS = ["Context", "Decision", "Consequences", "Alternatives"]
HEAD = re.compile(
    r"# (?P<number>\d{4}) (?P<title>[^\n]+)\n\n"
    r"- Status: (?P<status>.+?)\n"
    r"- Date: (?P<date>\d{4}-\d{2}-\d{2})\n\n## ",
    re.DOTALL,
)
STATUS = re.compile(r"accepted\b|(superseded by \[(\d{4})\]\(\2-[\w-]+\.md\))")
SUPERSEDES = re.compile(r"supersedes ((?:\[\d{4}\]\([\w-]+\.md\)(?:, | and )?)+)")
ROW = re.compile(r"^\| \[(\d{4})\]\(([\w-]+\.md)\) \| (.+) \| (.+) \|$", re.MULTILINE)
each_decision = pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)


def read_head(path: Path) -> dict[str, str]:
    head = HEAD.match(path.read_text(encoding="utf-8"))
    assert head, (
        "the title, the status and the date must come first, as in docs/decisions/README.md"
    )
    return {name: " ".join(text.split()) for name, text in head.groupdict().items()}


def read_status(path: Path) -> str:
    """Returns `accepted`, or `superseded by` with the link."""
    status = STATUS.match(read_head(path)["status"])
    assert status, "the status must be accepted, or superseded by a link to a newer decision"
    return status[0]


@each_decision
def test_a_decision_has_number_title_status_and_date(path: Path) -> None:
    head = read_head(path)
    assert head["number"] == path.name[:4]
    assert date.fromisoformat(head["date"])
    assert read_status(path)


@each_decision
def test_a_decision_has_the_sections_of_the_template_in_order(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^#+ (.+)$", text, re.MULTILINE)[1:] == SECTIONS
    assert all(section.strip() for section in re.split(r"^## .+$", text, flags=re.MULTILINE))


@each_decision
def test_a_decision_has_at_most_300_words(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").split()) <= MAX_WORDS


@each_decision
def test_a_superseded_decision_and_its_successor_link_to_each_other(path: Path) -> None:
    number = path.name[:4]
    for superseded in DECISIONS:
        names_this = superseded != path and f"[{number}]" in read_status(superseded)
        supersedes = SUPERSEDES.search(read_head(path)["status"])
        assert names_this == bool(supersedes and f"[{superseded.name[:4]}]" in supersedes[1])


def test_the_readme_lists_every_decision_with_its_title_and_status() -> None:
    listed = ROW.findall((FOLDER / "README.md").read_text(encoding="utf-8"))
    assert listed == [
        (head["number"], path.name, head["title"], read_status(path))
        for path in DECISIONS
        if (head := read_head(path))
    ]


def test_the_readme_explains_every_number_that_was_not_used() -> None:
    numbers = {int(path.name[:4]) for path in DECISIONS}
    unused = sorted(set(range(1, max(numbers) + 1)) - numbers)
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"{number:04}" in text for number in unused)
