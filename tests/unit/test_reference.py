"""The pages of docs/reference have everything that the code has, and nothing else."""

import re

from deploy.generate import metrics, topics
from deploy.local.layout import CHECKOUT
from shared.contract.errors import ErrorCode
from shared.contract.topics import TOPICS

REFERENCE = CHECKOUT / "docs/reference"
ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


def rows_of(page: str) -> list[str]:
    return ROW.findall((REFERENCE / page).read_text(encoding="utf-8"))


def test_every_error_code_has_one_row() -> None:
    assert sorted(rows_of("errors.md")) == sorted(ErrorCode)


def test_every_row_of_an_error_says_what_to_do() -> None:
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if ROW.match(line)]
    assert all(len(row) == 4 and all(row) for row in rows)


def test_every_metric_has_one_row() -> None:
    assert rows_of("metrics.md") == sorted(metrics.collectors())
    assert len(metrics.collectors()) > 15


def test_every_topic_has_its_use() -> None:
    assert set(topics.TRAFFIC) == {topic.name for topic in TOPICS}
