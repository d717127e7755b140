"""Provides endpoints with their service's dependencies, typed."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request

T = TypeVar("T")


def typed_dependencies(
    kind: type[T], name: str = "dependencies"
) -> Callable[[Request], Awaitable[T]]:
    """Returns a FastAPI dependency that provides the service's dependencies.

    `Service.create_app` stores them in the application's state. A service may store more there,
    under another name. The dependency is async because
    FastAPI runs synchronous ones in a thread.
    """

    async def provide(request: Request) -> T:
        dependencies = getattr(request.app.state, name)
        if not isinstance(dependencies, kind):
            raise TypeError(
                f"expected {kind.__name__}, but this application has {type(dependencies).__name__}"
            )
        return dependencies

    return provide
