"""Serves the application, and lets it cut a connection without an answer."""

import asyncio

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deploy.simulator.app import create_app
from deploy.simulator.options import Options
from deploy.simulator.store import SimulatorStore, UnusableData


class CuttableProtocol(HttpToolsProtocol):
    """Puts the connection's transport into each request's state, so that a fault can abort it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def serve(options: Options) -> None:
    """Serves until SIGTERM. Raises SystemExit if the port is not free or the file is unusable."""
    try:
        if options.data is not None:
            options.data.parent.mkdir(parents=True, exist_ok=True)
        store = SimulatorStore(options.data)
    except (OSError, UnusableData) as error:
        raise SystemExit(str(error)) from None
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(store, options),
            host=options.host,
            port=options.port,
            http=CuttableProtocol,
            loop="uvloop",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )
    try:
        server.run()
    finally:
        store.close()
    if not server.started:
        raise SystemExit(1)
