"""Configures logging: an event name and fields, without payloads, API keys or passwords."""

import logging
import re
import sys
import time

import structlog

from shared.access.keys import KEY_PREFIX, SHOWN_CHARACTERS
from shared.runtime.settings import ServiceSettings

REPEAT_AFTER_SECONDS = 10.0
MAX_REMEMBERED_MESSAGES = 1000
IGNORED_MESSAGES = ("Auto create topics is disabled",)
"""Beginnings of library messages that are never logged: Pinflow intends the behavior."""
PASSING_ERRORS = ("GroupCoordinatorNotAvailableError",)
"""Errors that Kafka answers until it is ready, and that libraries retry. They are warnings: at the
first start, Kafka creates its topic of offsets only when a consumer asks for it."""
KEYS = re.compile(rf"({KEY_PREFIX}[\w-]{{{SHOWN_CHARACTERS - len(KEY_PREFIX)}}})[\w-]+")
PASSWORDS = re.compile(r"(://[^\s:/@]*:)[^\s/@]+(?=@)")


def configure_logging(settings: ServiceSettings, *, service: str) -> None:
    """Sends all logs to standard output, one line each: as JSON, or as text for a terminal.

    This includes what libraries log, but never below WARNING.
    """
    level = logging.getLevelNamesMapping()[settings.log_level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if settings.log_format == "json" else _keep,
    ]
    renderer = redact_secrets(
        # Otherwise ids and times would be logged as their repr
        structlog.processors.JSONRenderer(default=str)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback
        )  # rich's formatter would show all local variables
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
    """Wraps `renderer`: removes API keys and passwords in URLs from every line.

    A library's message or a traceback may contain them.
    """

    def render(logger: object, method: str, event: structlog.typing.EventDict) -> str:
        line = str(renderer(logger, method, event))
        if KEY_PREFIX in line:  # 40 times cheaper than searching with the expression
            line = KEYS.sub(r"\1…", line)
        return PASSWORDS.sub(r"\1…", line) if "://" in line else line

    return render


class RateLimitedLogFilter(logging.Filter):
    """Drops a library's message if the same one was logged in the last REPEAT_AFTER_SECONDS.

    Lowers the level of PASSING_ERRORS.

    Messages that differ only in their arguments count as the same. aiokafka logs some errors
    hundreds of times per second while Kafka is unavailable.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged_at: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if any(str(record.msg).startswith(beginning) for beginning in IGNORED_MESSAGES):
            return False
        message, now = (record.name, record.msg), time.monotonic()
        if now - self._logged_at.get(message, -REPEAT_AFTER_SECONDS) < REPEAT_AFTER_SECONDS:
            return False
        if len(self._logged_at) >= MAX_REMEMBERED_MESSAGES:
            self._logged_at.clear()
        self._logged_at[message] = now
        if record.levelno > logging.WARNING and _is_passing(record):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def _is_passing(record: logging.LogRecord) -> bool:
    text = f"{record.msg} {record.args}"  # getMessage raises an error if the arguments don't fit
    return any(error in text for error in PASSING_ERRORS)


def _keep(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return event
