"""PinBridge's clients: what each of their methods asks for, read off the clients themselves, and
one way to drive both.
"""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, NamedTuple, NoReturn

from pinbridge_sdk import AsyncPinbridgeClient, PinbridgeClient

PLACEHOLDERS: dict[str, Any] = {
    "data": {},
    "rows": [],
    "pins": [],
    "ids": [],
    "asset_ids": [],
    "file": b"",
    "body": b"",
}
"""What a method is called with that needs more than a text, to see what it asks for."""


class Operation(NamedTuple):
    method: str
    path: str
    """With {id} for each parameter: client and server need not call them alike."""

    @classmethod
    def from_route(cls, method: str, path: str) -> "Operation":
        return cls(method.upper(), re.sub(r"\{\w+\}", "{id}", path))


class _RequestMade(Exception):
    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        self.operation = operation


class _Recorder:
    """In the client's place."""

    def request(self, method: str, path: str, **_options: Any) -> NoReturn:
        raise _RequestMade(Operation.from_route(method, path))


def read_operations(client: type[PinbridgeClient | AsyncPinbridgeClient]) -> dict[str, Operation]:
    """Each public method by its name, as pins.create, with the request that it makes."""
    recorder: Any = _Recorder()
    return {
        f"{group}.{name}": _read_operation(getattr(resource(recorder), name))
        for group, resource in client._builtin_resource_classes.items()
        for name, _ in inspect.getmembers(resource, inspect.isfunction)
        if not name.startswith("_")
    }


def build_placeholders(method: Callable[..., Any]) -> dict[str, Any]:
    """The least that the method can be called with."""
    parameters = inspect.signature(method).parameters.values()
    return {
        one.name: PLACEHOLDERS.get(one.name, "x") for one in parameters if one.default is one.empty
    }


def _read_operation(method: Callable[..., Any]) -> Operation:
    try:
        answer = method(**build_placeholders(method))
        if inspect.iscoroutine(answer):
            answer.send(None)
    except _RequestMade as asked:
        return asked.operation
    raise AssertionError(f"{method.__qualname__} asks for nothing")


class AsyncAdapter:
    """The synchronous client, called like the asynchronous one: one scenario drives both."""

    def __init__(self, client: PinbridgeClient) -> None:
        self._client = client

    def __getattr__(self, group: str) -> "_AsyncResourceAdapter":
        return _AsyncResourceAdapter(self._client.resource(group))


class _AsyncResourceAdapter:
    def __init__(self, resource: Any) -> None:
        self._resource = resource

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._resource, name)

        @wraps(method)  # with its parameters, to those who ask
        async def call(*arguments: Any, **named: Any) -> Any:
            return await asyncio.to_thread(method, *arguments, **named)

        return call
