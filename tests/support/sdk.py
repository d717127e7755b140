"""Reads the HTTP operation of each method of PinBridge's clients.

Also adapts the synchronous client, so that one test drives both.
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
"""Arguments for parameters that are not strings, by name."""


class Operation(NamedTuple):
    method: str
    path: str
    """The path with {id} for each parameter, because client and server name them differently."""

    @classmethod
    def from_route(cls, method: str, path: str) -> "Operation":
        return cls(method.upper(), re.sub(r"\{\w+\}", "{id}", path))


class _RequestMade(Exception):
    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        self.operation = operation


class _Recorder:
    """A client that raises the operation instead of sending a request."""

    def request(self, method: str, path: str, **_options: Any) -> NoReturn:
        raise _RequestMade(Operation.from_route(method, path))


def read_operations(client: type[PinbridgeClient | AsyncPinbridgeClient]) -> dict[str, Operation]:
    """Returns the operation of each public method, by a name like pins.create."""
    recorder: Any = _Recorder()
    return {
        f"{group}.{name}": _read_operation(getattr(resource(recorder), name))
        for group, resource in client._builtin_resource_classes.items()
        for name, _ in inspect.getmembers(resource, inspect.isfunction)
        if not name.startswith("_")
    }


def build_placeholders(method: Callable[..., Any]) -> dict[str, Any]:
    """Builds arguments for the method's required parameters."""
    parameters = inspect.signature(method).parameters.values()
    return {
        parameter.name: PLACEHOLDERS.get(parameter.name, "x")
        for parameter in parameters
        if parameter.default is parameter.empty
    }


def _read_operation(method: Callable[..., Any]) -> Operation:
    try:
        answer = method(**build_placeholders(method))
        if inspect.iscoroutine(answer):
            answer.send(None)
    except _RequestMade as made:
        return made.operation
    raise AssertionError(f"{method.__qualname__} sends no request")


class AsyncAdapter:
    """Calls the synchronous client like the asynchronous one, so one scenario tests both."""

    def __init__(self, client: PinbridgeClient) -> None:
        self._client = client

    def __getattr__(self, group: str) -> "_AsyncResourceAdapter":
        return _AsyncResourceAdapter(self._client.resource(group))


class _AsyncResourceAdapter:
    def __init__(self, resource: Any) -> None:
        self._resource = resource

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._resource, name)

        @wraps(method)  # keeps its signature, which tests inspect
        async def call(*arguments: Any, **named: Any) -> Any:
            return await asyncio.to_thread(method, *arguments, **named)

        return call
