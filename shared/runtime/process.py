"""Runs a service's HTTP server as one process. The process ends if a component is lost."""

import gc
import math
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from shared.runtime.logging import configure_logging
from shared.runtime.settings import (
    ServiceSettings,
    describe_invalid_settings,
    find_unread_variables,
)

log = structlog.get_logger()

S = TypeVar("S", bound=ServiceSettings)

LOST_SECONDS = 60.0
"""The time a process has to stop after it lost a component. Then it is killed. For a stop by
SIGTERM, the supervisor has its own limit.
"""


def run(name: str, read_settings: Callable[[], S], create_app: Callable[[S], FastAPI]) -> None:
    """Runs the service until SIGTERM. Exits with 1 and a message if a setting is invalid."""
    try:
        settings = read_settings()
    except ValidationError as error:
        raise SystemExit(describe_invalid_settings(error)) from None
    configure_logging(settings, service=name)
    _log_unread_variables(settings)
    serve(create_app(settings), settings)


def _log_unread_variables(settings: ServiceSettings) -> None:
    """Logs variables PINFLOW_* without effect. Not an error: others may share the prefix."""
    unread = find_unread_variables(settings, os.environ)
    for variable, suggestion in unread.items():
        if suggestion is not None:
            log.warning(
                "setting_unknown",
                variable=variable,
                did_you_mean=suggestion,
                settings="docs/reference/settings.md",
            )
    others = [variable for variable, suggestion in unread.items() if suggestion is None]
    if others:
        log.info("settings_not_read", variables=others)


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serves until SIGTERM, then finishes the requests in flight and ends the lifespan.

    `app.state.runtime` is the service's ServiceRuntime. Exits with 1 if a component was lost or
    the server could not start.
    """
    server = uvicorn.Server(configure_server(app, settings))
    lost = False

    def stop() -> None:
        nonlocal lost
        lost = server.should_exit = True
        _exit_within(LOST_SECONDS)

    app.state.runtime.on_lost = stop
    configure_gc()
    server.run()
    if lost or not server.started:
        raise SystemExit(1)


def configure_server(app: FastAPI, settings: ServiceSettings) -> uvicorn.Config:
    """Returns uvicorn's configuration."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        # Longer than the gateway keeps idle connections. Otherwise it would send requests into
        # connections that are already closed
        timeout_keep_alive=75,
        # Whole seconds. With 0 uvicorn would cancel requests in progress at once
        timeout_graceful_shutdown=math.ceil(settings.stop_timeout_seconds),
    )


def _exit_within(seconds: float) -> None:
    # Stopping may wait for the lost component, forever. A thread: the event loop itself may hang
    timer = threading.Timer(seconds, _exit)
    timer.daemon = True
    timer.start()


def _exit() -> None:
    log.critical("stop_timed_out", next="killed; uncommitted batches are processed again")
    os._exit(1)


def configure_gc() -> None:
    """Configures the garbage collector. Called once, after all imports."""
    # A batch keeps thousands of rows alive for a moment. With Python's thresholds, the collector
    # traverses them and all imported modules again and again. Measured: two thirds of the CPU time
    # for deciding a batch's outcomes. Pinflow's code creates few cycles
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()  # each service's __main__ disables it before its imports
