"""Checks the table of Kafka rights. tests/acceptance/test_acls.py runs the services with them."""

import re
from collections import Counter

from deploy.local.layout import CHECKOUT

PAGE = (CHECKOUT / "docs/how-to/run-in-production.md").read_text(encoding="utf-8")


def test_the_page_states_the_rights_of_each_principal_once() -> None:
    section = PAGE.partition("## 3. Grant rights in Kafka")[2].partition("\n## ")[0]
    principals = Counter(re.findall(r"^\| ([\w `-]+?) \|", section, re.MULTILINE))
    assert principals.total() > 5
    assert {name for name, rows in principals.items() if rows > 1} == set()
