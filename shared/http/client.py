"""The HTTP client for internal routes of other services."""

import httpcore

IDLE_SECONDS = 5
REQUEST_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


def create_http_pool() -> httpcore.AsyncConnectionPool:
    """Builds a connection pool. The caller closes it with `aclose`.

    httpx, which is based on httpcore, is not used: it loads all certificate authorities and imports
    its command line, which costs 0.1 s of CPU and 4 MB.
    """
    return httpcore.AsyncConnectionPool(keepalive_expiry=IDLE_SECONDS)
