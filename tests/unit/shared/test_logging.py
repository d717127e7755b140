"""Filters for the logs of libraries, and for secrets in all logs."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

import pytest
import structlog
from aiokafka.errors import CoordinatorLoadInProgressError, GroupCoordinatorNotAvailableError

from shared.access.keys import SHOWN_CHARACTERS, new_api_key
from shared.runtime import logging as pinflow_logging
from shared.runtime.logging import (
    IGNORED_MESSAGES,
    REPEAT_AFTER_SECONDS,
    RateLimitedLogFilter,
    configure_logging,
)
from shared.runtime.settings import ServiceSettings


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pinflow_logging, "time", clock)
    return clock


@contextmanager
def configured(log_format: str) -> Iterator[None]:
    """Configures logging. Restores the former configuration at the end."""
    root = logging.getLogger()
    configuration, handlers, level = structlog.get_config(), root.handlers[:], root.level
    configure_logging(ServiceSettings(log_format=log_format), service="testing")
    try:
        yield
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.configure(**configuration)
        logging.basicConfig(handlers=handlers, level=level, force=True)


def record(message: str, *arguments: object, name: str = "aiokafka") -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, arguments, None)


def test_a_librarys_repeated_message_is_logged_once_per_period(clock: Clock) -> None:
    log_filter = RateLimitedLogFilter()
    assert [
        log_filter.filter(record("Unable connect to node with id %s", node)) for node in (1, 1, 2)
    ] == [True, False, False]
    assert log_filter.filter(record("Something else"))
    assert log_filter.filter(record("Unable connect to node with id %s", 1, name="another"))
    clock.now += REPEAT_AFTER_SECONDS
    assert log_filter.filter(record("Unable connect to node with id %s", 1))


def test_ignored_messages_are_not_logged() -> None:
    assert not any(
        RateLimitedLogFilter().filter(record(f"{message}. Make sure the topics exist."))
        for message in IGNORED_MESSAGES
    )


def test_an_error_that_kafka_answers_until_it_is_ready_is_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with configured("json"):
        log = logging.getLogger("aiokafka.consumer.group_coordinator")
        log.error("Group Coordinator Request failed: %s", GroupCoordinatorNotAvailableError())
        log.error("Another request failed: %s", CoordinatorLoadInProgressError())
    levels = [json.loads(line)["level"] for line in capsys.readouterr().out.splitlines()]
    assert levels == ["warning", "error"]


def fail(message: str) -> None:
    raise ValueError(message)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_log_line_contains_an_api_key_or_a_password(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = new_api_key().plain
    payload = "a local variable's"
    with configured(log_format):
        try:
            fail(
                f"could not reach postgresql://pinflow:hunter2@db:5432/pinflow with {key}"
            )  # pragma: allowlist secret
        except ValueError:
            structlog.get_logger().exception("failed", header=key)
            logging.getLogger("library").exception("failed with %s", key)
    output = capsys.readouterr().out
    assert key not in output
    assert key[:SHOWN_CHARACTERS] in output  # enough to identify the key
    assert "hunter2" not in output
    assert output.count(payload) == 0
    assert "postgresql://pinflow:…@db:5432/pinflow" in output


def test_values_are_logged_as_people_write_them(capsys: pytest.CaptureFixture[str]) -> None:
    account, at = "4b1d8f3a-3029-40bb-934e-5afe29fdc54b", datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
    with configured("json"):
        structlog.get_logger().info("paused", account_id=UUID(account), until=at)
    line = json.loads(capsys.readouterr().out)
    assert (line["account_id"], line["until"]) == (account, "2026-12-01 09:30:00+00:00")
