"""Silences the log: every kill makes clients tell of each attempt."""

import logging

import structlog


def silence_logs() -> None:
    """Lets only critical events through, aiokafka's too."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
