"""Sends raw bytes on a socket, for HTTP that no client library would write."""

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
    """Fills the placeholders of a request: %KEY%, %ACCOUNT%, %BOARD% and %NONCE%.

    The nonce is new for each test.
    """

    workspace: NewWorkspace
    nonce: str

    def fill(self, text: bytes) -> bytes:
        account = self.workspace.accounts[0]
        values = {
            "KEY": self.workspace.api_key,
            "ACCOUNT": account.id,
            "BOARD": account.boards[0],
            "NONCE": self.nonce,
        }
        for name, value in values.items():
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
    """A connection that sends raw bytes and reads answers."""

    def __init__(self, port: int, timeout_seconds: float = 30) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> Self:
        with suppress(OSError):  # the server may answer and close while this is sending
            self._socket.sendall(data)
        return self

    def read_available(self, timeout_seconds: float) -> bytes:
        """Reads until the connection ends or nothing has come for `timeout_seconds`."""
        self._socket.settimeout(timeout_seconds)
        data = bytearray()
        with suppress(OSError):
            while part := self._socket.recv(65536):
                data += part
        return bytes(data)

    def read_answer(self, method: str = "GET") -> Answer:
        """Reads the next answer. Its status is CLOSED if the connection was closed.

        Raises TimeoutError if nothing comes.
        """
        response = http.client.HTTPResponse(self._socket, method=method)
        try:
            response.begin()
        except TimeoutError:
            raise
        except (http.client.HTTPException, OSError):
            return Answer(CLOSED)
        body = b""
        # A server that answers before it has read everything may reset the connection
        with suppress(ConnectionResetError):
            body = response.read()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, body
        )


class _ReceivedBytes(io.BytesIO):
    """The bytes of one connection, from which several http.client responses read.

    Each response closes its file, so close() does nothing.
    """

    def makefile(self, _mode: str) -> Self:
        return self

    def close(self) -> None: ...


def parse_answers(received: bytes) -> list[Answer]:
    """Parses every complete answer in the bytes."""
    source = _ReceivedBytes(received)
    answers = []
    with suppress(http.client.HTTPException):
        while source.tell() < len(received):
            # HTTPResponse uses only the socket's makefile
            response = http.client.HTTPResponse(source)  # type: ignore[arg-type]
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            answers.append(Answer(response.status, headers, response.read()))
    return answers
