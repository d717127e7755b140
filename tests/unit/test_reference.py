"""The pages of docs/reference have everything that the code has, and nothing else."""

import json
import re

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
