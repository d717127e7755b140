"""Checks that the processes at this stack's ports belong to this stack."""

from contextlib import closing
from http.client import HTTPConnection, HTTPException

from deploy.local.layout import LocalError
from shared.http.installation import HEADER

REQUEST_SECONDS = 5
GATEWAY_ERRORS = (502, 503, 504)
"""Statuses with which Caddy answers for a service that is not up yet."""


class ForeignServer(LocalError):
    """Another program answers at an address of this stack."""

    advice = "The next start chooses other ports."


def find_service_problem(name: str, port: int, installation: str) -> str | None:
    """Returns None if this stack's process answers, or the reason if there is no answer.

    `installation` is the id that the process was started with. Raises ForeignServer if a process
    without this id answers.
    """
    # A new connection each time: two gateways can listen on one port, and the kernel picks one for
    # each connection. Not httpx: it takes 0.1 s to read the certificate authorities
    with closing(HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)) as connection:
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, HTTPException) as error:
            return f"no answer from {name}: {error}"
    answering = answer.getheader(HEADER)
    if answering == installation:
        return None
    if answering is None and answer.status in GATEWAY_ERRORS:
        return f"no answer from {name}: {text}"
    other = "Another program" if answering is None else "Another installation of Pinflow"
    raise ForeignServer(
        f"{other} answers at http://127.0.0.1:{port}, which is the address of this stack's {name}."
    )
