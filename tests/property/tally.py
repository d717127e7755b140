"""A plugin of pytest for `make fuzz`: how many examples each test ran, and how long that took, in a
file.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis.statistics import collector, describe_statistics

FILE = "PINFLOW_FUZZING_TALLY"
EXAMPLES = re.compile(r"- (\d+) passing, (\d+) failing")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    told: list[str] = []
    started = time.monotonic()
    # Of a state machine hypothesis' own plugin knows nothing: pytest sees a function that runs one
    # Typed as if it could only be None
    note: Any = lambda statistics: told.append(describe_statistics(statistics))  # noqa: E731
    with collector.with_value(note):
        try:
            return (yield)
        finally:
            told.append(getattr(item, "hypothesis_statistics", ""))
            count = sum(
                int(number) for match in EXAMPLES.findall("\n".join(told)) for number in match
            )
            with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
                file.write(json.dumps([item.name, count, time.monotonic() - started]) + "\n")
