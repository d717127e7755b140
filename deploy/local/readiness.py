"""Asks the processes of a stack whether they are ready."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

REQUEST_SECONDS = 5
READY = "ready"
PATHS = {"status": "/internal/readyz"}
"""Other paths than /readyz. That of the status service reports all services, as the gateway's."""


def read_readiness(ports: Mapping[str, int]) -> dict[str, str]:
    """Asks all processes at once. `ports` has the HTTP port of each, by its name.

    A process is `ready`, `degraded` or `not ready`. The last two are followed by the reasons.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(ports))) as pool:
        return dict(zip(ports, pool.map(_ask, ports, ports.values()), strict=True))


def _ask(name: str, port: int) -> str:
    # Not httpx: it takes 0.1 s to read the certificate authorities
    with closing(HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)) as connection:
        try:
            connection.request("GET", PATHS.get(name, "/readyz"))
            answer = connection.getresponse()
            document = json.loads(answer.read())
        except (OSError, HTTPException, ValueError) as error:
            return f"not ready: no answer ({error})"
    reasons = _list_reasons(document)
    if answer.status != HTTPStatus.OK:
        return f"not ready: {reasons or document}"
    return f"degraded: {reasons}" if reasons else READY


def _list_reasons(document: Any) -> str:
    """Lists the failed checks of a /readyz answer, or the status of one without checks."""
    if not isinstance(document, dict):
        return ""
    checks = document.get("checks") or {"": document.get("status", "ok")}
    failed = {name: state for name, state in checks.items() if state != "ok"}
    return "; ".join(f"{name}: {state}" if name else str(state) for name, state in failed.items())
