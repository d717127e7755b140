"""Loads the certificate authorities of a test process once, and not for each client."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import certifi
import pytest

_PUBLIC = (None, certifi.where())
"""Files of public authorities: those of the machine, and those that httpx brings."""


@contextmanager
def sharing_authorities() -> Iterator[None]:
    """Lets all clients of public authorities share a TLS context until the block ends.

    Loading the authorities takes 50 ms of CPU time. The tests' servers speak HTTP without TLS;
    clients that name authorities of their own get a context of their own.
    """
    create = ssl.create_default_context
    create_once = cache(create)

    def create_or_share(*purpose: Any, cafile: Any = None, **files: Any) -> ssl.SSLContext:
        if cafile in _PUBLIC and not any(files.values()):
            return create_once(*purpose, cafile=cafile)
        return create(*purpose, cafile=cafile, **files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", create_or_share)
        yield
