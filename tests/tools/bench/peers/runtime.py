"""What the processes of a peer share: their settings, and how they serve HTTP."""

from uuid import UUID

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from shared.runtime.process import configure_gc
from shared.runtime.settings import ServiceSettings


class PeerSettings(ServiceSettings):
    """The services' own, from the same variables, and what a peer needs beside them."""

    api_key: SecretStr
    workspace_id: UUID
    """Whose key it is: a peer has one tenant."""
    redis_url: str = ""


def serve(app: FastAPI, settings: PeerSettings) -> None:
    configure_gc()  # a team that looks at a profile finds this first
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
