"""Checks that the processes that answer at this stack's ports are its own."""

from contextlib import closing
from http.client import HTTPConnection, HTTPException

from deploy.local.layout import LocalError
from shared.http.installation import HEADER

ASK_SECONDS = 5
GATEWAY_ERRORS = (502, 503, 504)
"""Caddy's own answers for a service that is not up yet."""


class ForeignServer(LocalError):
    """Another program answers at an address of this stack."""


def find_service_problem(name: str, port: int, installation: str) -> str | None:
    """Returns None if our process answers, or why nothing does.

    `installation` is the id that the process was started with. Raises ForeignServer.
    """
    # A connection of its own each time: two gateways can listen on one port, and the kernel chooses
    # between them by connection. Not httpx, which reads all certificate authorities for each: 0.1 s
    with closing(HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS)) as connection:
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, HTTPException) as error:
            return f"no answer from {name}: {error}"
    found = answer.getheader(HEADER)
    if found == installation:
        return None
    if found is None and answer.status in GATEWAY_ERRORS:
        return f"no answer from {name}: {text}"
    other = "another program" if found is None else "another installation of Pinflow"
    raise ForeignServer(
        f"{other} answers at http://127.0.0.1:{port}, the address of this stack's {name}."
    )
