"""Defines the operations of the API, a call of one, and its answer."""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from starlette.datastructures import QueryParams

from deploy.simulator.faults import Faults
from deploy.simulator.options import Category, Options, Settings


class CallAnswer(NamedTuple):
    status: int
    document: Any = None
    """None: no body."""
    headers: Mapping[str, str] = {}


class User(NamedTuple):
    id: str
    username: str
    scopes: frozenset[str]
    """The scopes of the token with which the user's app calls."""


@dataclass(frozen=True)
class Call:
    """A request, after the token, the scopes and the rate limit were checked."""

    database: sqlite3.Connection
    """Holds a transaction that belongs to this call."""
    settings: Settings
    options: Options
    faults: Faults
    now: float
    path: Mapping[str, str]
    query: QueryParams
    headers: Mapping[str, str]
    body: bytes
    signed_in: User | None = None

    @property
    def user(self) -> User:
        """Raises RuntimeError if the operation has no scopes, and so no user."""
        if self.signed_in is None:
            raise RuntimeError("the call has no token")
        return self.signed_in


@dataclass(frozen=True)
class ApiOperation:
    """`name` is the operationId of Pinterest's API description."""

    name: str
    method: str
    path: str
    category: Category
    scopes: frozenset[str] | None
    """The scopes that the token needs. None: the call has no token."""
    run: Callable[[Call], CallAnswer] = field(repr=False)
