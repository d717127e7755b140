"""Checks that the processes that answer at this stack's ports are its own."""

import httpx

from deploy.local.layout import LocalError
from shared.http.installation import HEADER

ASK_SECONDS = 5


class ForeignServer(LocalError):
    """Another program answers at an address of this stack."""


def service_trouble(name: str, base_url: str, installation: str) -> str | None:
    """Returns None if our process answers, or why nothing does.

    `installation` is the id that the process was started with. Raises ForeignServer.
    """
    try:
        # A connection of its own each time: two gateways can listen on one port, and the kernel
        # chooses between them by connection
        answer = httpx.get(f"{base_url}/readyz", timeout=ASK_SECONDS, trust_env=False)
    except httpx.RequestError as error:
        return f"no answer from {name}: {error}"
    if (found := answer.headers.get(HEADER)) == installation:
        return None
    if found is None and answer.status_code in (502, 503, 504):
        return f"no answer from {name}: {answer.text}"  # the gateway's own, for an absent service
    other = "another program" if found is None else "another installation of Pinflow"
    raise ForeignServer(f"{other} answers at {base_url}, the address of this stack's {name}.")
