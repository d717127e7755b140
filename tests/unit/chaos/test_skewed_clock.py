"""A skewed clock changes only the time, not the types of values."""

import sys
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest

from tests.tools.chaos.skewed_clock import skew

OFFSET = timedelta(seconds=200)


def test_values_of_a_skewed_module_are_usual_datetimes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("services.skewed_for_test")
    module.datetime = datetime  # type: ignore[attr-defined]
    own = {module.__name__: module}
    monkeypatch.setattr("time.time", datetime.now(UTC).timestamp)
    monkeypatch.setattr(sys, "modules", own)
    skew(OFFSET.total_seconds())
    skewed = module.datetime
    monkeypatch.undo()
    now = datetime.now(UTC)
    assert abs(skewed.now(UTC) - now - OFFSET) < OFFSET / 2
    noon = datetime(2026, 11, 30, 12, tzinfo=UTC)
    values = [
        skewed.now(UTC),
        skewed(2026, 11, 30, 12, tzinfo=UTC),
        skewed.fromisoformat(noon.isoformat()),
        skewed.fromtimestamp(noon.timestamp(), UTC),
    ]
    assert {type(value) for value in values} == {datetime}
    assert values[1:] == [noon] * 3
    assert isinstance(noon, skewed)
