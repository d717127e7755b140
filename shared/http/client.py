"""Makes the HTTP client with which services call each other's internal routes."""

import httpcore

IDLE_SECONDS = 5
REQUEST_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


def create_http_pool() -> httpcore.AsyncConnectionPool:
    """Makes a pool of connections; its user closes it with `aclose`.

    httpx, which is made of httpcore, reads all certificate authorities at once and imports its
    command line: 0.1 s of CPU, 4 MB.
    """
    return httpcore.AsyncConnectionPool(keepalive_expiry=IDLE_SECONDS)
