"""Gives endpoints the dependencies of their service, typed."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request

T = TypeVar("T")


def typed_dependencies(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    """Returns a FastAPI dependency that provides the service's dependencies.

    `Service.create_app` puts them into the application's state. The dependency is async because
    FastAPI hands any other to a thread.
    """

    async def provide(request: Request) -> T:
        dependencies = request.app.state.dependencies
        if not isinstance(dependencies, kind):
            raise TypeError(f"this application has {type(dependencies).__name__}")
        return dependencies

    return provide
