"""Pytest plugin of `make fuzz`: writes each test's number of examples and seconds to a file."""

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
    descriptions: list[str] = []
    started = time.monotonic()
    # Hypothesis' own plugin has no statistics of state machines, because for pytest they are plain
    # functions. `Any`, because hypothesis types the collector as None
    collect: Any = lambda statistics: descriptions.append(  # noqa: E731
        describe_statistics(statistics)
    )
    with collector.with_value(collect):
        try:
            return (yield)
        finally:
            descriptions.append(getattr(item, "hypothesis_statistics", ""))
            count = sum(
                int(number)
                for match in EXAMPLES.findall("\n".join(descriptions))
                for number in match
            )
            with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
                file.write(json.dumps([item.name, count, time.monotonic() - started]) + "\n")
