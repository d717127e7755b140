"""Logs are an event name and fields; never a payload, a key or a password."""

import logging
import sys
import time

import structlog

from shared.settings import ServiceSettings

PAUSE_SECONDS = 10.0
MOST_SAID = 1000
KNOWN = ("Auto create topics is disabled",)
"""What needs no saying: it is meant to be so."""


def configure_logging(settings: ServiceSettings, *, service: str) -> None:
    """One line a record on standard output, JSON or for a terminal; the libraries' own records take the same way."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if settings.log_format == "json" else _keep,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if settings.log_format == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, replica=settings.replica)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    handler.addFilter(Seldom())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)


class Seldom(logging.Filter):
    """Lets a library say one thing once in PAUSE_SECONDS: with Kafka away, aiokafka would say it hundreds of times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if any(str(record.msg).startswith(known) for known in KNOWN):
            return False
        about, now = (record.name, record.msg), time.monotonic()
        if now - self._said.get(about, -PAUSE_SECONDS) < PAUSE_SECONDS:
            return False
        if len(self._said) >= MOST_SAID:
            self._said.clear()
        self._said[about] = now
        return True


def _keep(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
