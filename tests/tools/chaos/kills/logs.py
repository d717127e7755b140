"""Silences the logs: after a kill clients log every failed attempt."""

import logging

import structlog


def silence_logs() -> None:
    """Allows only critical events, also for aiokafka."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
