"""Helps with tasks that several callers share, and which go on if their callers give up."""

import asyncio
from typing import Any


def retrieve_exception(ended: asyncio.Future[Any]) -> None:
    """Marks the exception of an ended task as seen. Use it as a done callback.

    If all callers have stopped waiting, nobody retrieves the exception, and asyncio would log it.
    """
    if not ended.cancelled():
        ended.exception()
