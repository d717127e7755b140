"""Settings and HTTP server that the peers' processes share."""

from uuid import UUID

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from shared.runtime.process import configure_gc
from shared.runtime.settings import ServiceSettings


class PeerSettings(ServiceSettings):
    """Settings of the services, from the same variables, and those that only peers have."""

    api_key: SecretStr
    workspace_id: UUID
    """Workspace of the key. A peer has only one tenant."""
    redis_url: str = ""
    redelivery_seconds: int = 30
    """Seconds after which a task is sent again for an import that has not settled. Only the
    equal-work peer uses it: a task takes milliseconds, so that hardly one still waits or
    runs then."""


WEB_PROCESSES = 2
"""Processes of a peer that does all its work in the request: as many as the machine has cores."""


def serve(app: FastAPI | str, settings: PeerSettings, *, processes: int = 1) -> None:
    """Serves an app. For several processes, pass the name of a function that builds it."""
    configure_gc()  # the first improvement that a profile suggests to any team
    uvicorn.run(
        app,
        factory=isinstance(app, str),
        workers=processes,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
