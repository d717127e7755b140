"""What of the libraries' own logging is let through."""

import logging

import pytest

from shared import logging as pinflow_logging
from shared.logging import KNOWN, PAUSE_SECONDS, Seldom


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pinflow_logging, "time", clock)
    return clock


def record(message: str, *arguments: object, name: str = "aiokafka") -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, arguments, None)


def test_a_library_says_one_thing_once_in_a_while(clock: Clock) -> None:
    seldom = Seldom()
    assert [seldom.filter(record("Unable connect to node with id %s", node)) for node in (1, 1, 2)] == [True, False, False]
    assert seldom.filter(record("Something else"))
    assert seldom.filter(record("Unable connect to node with id %s", 1, name="another"))
    clock.now += PAUSE_SECONDS
    assert seldom.filter(record("Unable connect to node with id %s", 1))


def test_what_is_meant_to_be_so_is_not_said() -> None:
    assert not any(Seldom().filter(record(f"{known}. Make sure the topics exist.")) for known in KNOWN)
