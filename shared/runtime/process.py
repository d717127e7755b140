"""Runs a service's HTTP server as one process, which ends if any component is lost."""

import gc
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog
import uvicorn
from fastapi import FastAPI

from shared.runtime.logging import configure_logging
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

S = TypeVar("S", bound=ServiceSettings)

LOST_SECONDS = 60.0
"""Seconds after which a process that lost a component is gone, whether it could stop or not. A stop
from outside has its supervisor's limit.
"""


def run(name: str, settings: S, create_app: Callable[[S], FastAPI]) -> None:
    """Runs the service until SIGTERM."""
    configure_logging(settings, service=name)
    serve(create_app(settings), settings)


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serves until SIGTERM, then finishes what is in flight and ends the lifespan.

    `app.state.runtime` is the service's ServiceRuntime. Exits with 1 if a component was lost.
    """
    server = uvicorn.Server(
        uvicorn.Config(
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
            # Longer than the gateway keeps idle connections, or it would send into a closed one
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(settings.stop_timeout_seconds),
        )
    )
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


def _exit_within(seconds: float) -> None:
    # Whatever was lost may be what stopping waits for. A thread: the event loop may be what is lost
    timer = threading.Timer(seconds, _exit)
    timer.daemon = True
    timer.start()


def _exit() -> None:
    log.critical("stop_timed_out", next="ended all the same: what was not committed is done again")
    os._exit(1)


def configure_gc() -> None:
    """Sets up the collection of cycles, once, after everything is imported."""
    # A batch keeps thousands of rows alive for a moment: with Python's thresholds the collector
    # walks them, and all that was imported, again and again (measured: two thirds of a settlement's
    # CPU). Nothing here makes cycles by the thousand.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()  # services' __main__ switched it off
