"""Logs are an event name and fields; never a payload, a key or a password."""

import logging
import re
import sys
import time

import structlog

from shared.access.keys import KEY_PREFIX, SHOWN_CHARACTERS
from shared.runtime.settings import ServiceSettings

REPEAT_AFTER_SECONDS = 10.0
MAX_REMEMBERED = 1000
IGNORED_MESSAGES = ("Auto create topics is disabled",)
"""What needs no saying: it is meant to be so."""
KEYS = re.compile(rf"({KEY_PREFIX}[\w-]{{{SHOWN_CHARACTERS - len(KEY_PREFIX)}}})[\w-]+")
PASSWORDS = re.compile(r"(://[^\s:/@]*:)[^\s/@]+(?=@)")


def configure_logging(settings: ServiceSettings, *, service: str) -> None:
    """One line a record on standard output, JSON or for a terminal; the libraries' own records take
    the same way.
    """
    level = logging.getLevelNamesMapping()[settings.log_level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if settings.log_format == "json" else _keep,
    ]
    renderer = redact_secrets(
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback
        )  # rich's would show every local variable
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
    handler.addFilter(RateLimitedLogFilter())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)


def redact_secrets(renderer: structlog.typing.Processor) -> structlog.typing.Processor:
    """What `renderer` makes, but for API keys and for passwords in URLs, whoever let them in: a
    library, a trace.
    """

    def render(logger: object, method: str, event: structlog.typing.EventDict) -> str:
        line = str(renderer(logger, method, event))
        if KEY_PREFIX in line:  # a plain search is 40 times cheaper than the expression's
            line = KEYS.sub(r"\1…", line)
        return PASSWORDS.sub(r"\1…", line) if "://" in line else line

    return render


class RateLimitedLogFilter(logging.Filter):
    """Lets a library say one thing once in REPEAT_AFTER_SECONDS: with Kafka away,
    aiokafka would say it hundreds of times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if any(str(record.msg).startswith(known) for known in IGNORED_MESSAGES):
            return False
        about, now = (record.name, record.msg), time.monotonic()
        if now - self._said.get(about, -REPEAT_AFTER_SECONDS) < REPEAT_AFTER_SECONDS:
            return False
        if len(self._said) >= MAX_REMEMBERED:
            self._said.clear()
        self._said[about] = now
        return True


def _keep(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return event
