"""HTTP as no client library would write it: bytes as they are, on a socket of one's own."""

import http.client
import io
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Self

import orjson

from deploy.administration import NewWorkspace

CLOSED = 0
"""The status of a connection that was closed without an answer."""


@dataclass(frozen=True)
class Caller:
    """In a request %KEY%, %ACCOUNT% and %BOARD% stand for these, %NONCE% for something new each
    time.
    """

    workspace: NewWorkspace
    nonce: str

    def fill(self, text: bytes) -> bytes:
        account = self.workspace.accounts[0]
        named = {
            "KEY": self.workspace.api_key,
            "ACCOUNT": account.id,
            "BOARD": account.boards[0],
            "NONCE": self.nonce,
        }
        for name, value in named.items():
            text = text.replace(f"%{name}%".encode(), str(value).encode())
        return text


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""

    @property
    def code(self) -> str | None:
        with suppress(orjson.JSONDecodeError, KeyError, TypeError):
            return str(orjson.loads(self.body)["detail"]["code"])
        return None


class Connection:
    """Sends what it is told, and reads what comes."""

    def __init__(self, port: int, patience: float = 30) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> Self:
        with suppress(OSError):  # answered and closed while it was still being sent
            self._socket.sendall(data)
        return self

    def received(self, patience: float) -> bytes:
        """All that comes, until nothing more has come for `patience` seconds or the connection is
        closed.
        """
        self._socket.settimeout(patience)
        data = bytearray()
        with suppress(OSError):
            while more := self._socket.recv(65536):
                data += more
        return bytes(data)

    def answer(self, method: str = "GET") -> Answer:
        """The next answer; CLOSED when there is none.

        Raises TimeoutError when nothing comes at all.
        """
        response = http.client.HTTPResponse(self._socket, method=method)
        try:
            response.begin()
        except TimeoutError:
            raise
        except (http.client.HTTPException, OSError):
            return Answer(CLOSED)
        body = b""
        with suppress(
            ConnectionResetError
        ):  # what was still being sent when it was answered resets the connection
            body = response.read()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, body
        )


class _Received(io.BytesIO):
    """What came on one connection, as http.client's responses read it one after the other: each
    closes what it has read from.
    """

    def makefile(self, _mode: str) -> Self:
        return self

    def close(self) -> None: ...


def answers_in(received: bytes) -> list[Answer]:
    """Each whole answer among these bytes."""
    source = _Received(received)
    answers = []
    with suppress(http.client.HTTPException):
        while source.tell() < len(received):
            response = http.client.HTTPResponse(source)  # type: ignore[arg-type] # all that it asks of a socket is its file
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            answers.append(Answer(response.status, headers, response.read()))
    return answers
