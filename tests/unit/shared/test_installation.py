"""The header that identifies an installation."""

import httpx
from fastapi import FastAPI

from shared.http.installation import HEADER, InstallationHeader


async def test_only_readiness_returns_the_installation_id() -> None:
    app = FastAPI()
    app.add_middleware(InstallationHeader, installation="a-1")
    for path in ("/readyz", "/v1/pins"):
        app.get(path)(lambda: None)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.get("/readyz")).headers[HEADER] == "a-1"
        assert HEADER not in (await client.get("/v1/pins")).headers
