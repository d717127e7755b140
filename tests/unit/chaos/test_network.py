"""The proxy's faults, each as a client feels it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from deploy.local.ports import choose
from tests.support import ports
from tests.tools.chaos.network import HOST, Network, Proxy

SHORT = 0.3


def _echo(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection, suppress(ConnectionResetError):
        while data := connection.recv(100):
            connection.sendall(data)


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def proxy(network: Network) -> Iterator[Proxy]:
    with closing(socket.create_server((HOST, 0))) as server:
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
        yield network.proxy(server.getsockname()[1], choose({"proxy": ports.PROXIES})["proxy"])


@contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with closing(socket.create_connection((HOST, proxy.port), timeout=5)) as connection:
        yield connection


def says(connection: socket.socket, text: bytes = b"hello") -> bytes:
    connection.sendall(text)
    return connection.recv(100)


def test_it_passes_on_what_is_said_both_ways(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert says(connection) == b"hello"


def test_a_cut_resets_old_and_new_connections_until_it_is_mended(
    network: Network, proxy: Proxy
) -> None:
    with connected(proxy) as old:
        assert says(old)
        network.do(proxy.cut())
        with pytest.raises(ConnectionResetError):
            says(old)
    with pytest.raises(ConnectionResetError), connected(proxy) as new:
        new.recv(100)
    network.do(proxy.mend())
    with connected(proxy) as again:
        assert says(again) == b"hello"


def test_in_a_silence_connections_stand_and_what_was_said_arrives_afterwards(
    network: Network, proxy: Proxy
) -> None:
    with connected(proxy) as connection:
        assert says(connection)
        network.do(proxy.silence())
        connection.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            says(connection, b"anyone?")
        network.do(proxy.mend())
        connection.settimeout(5)
        assert connection.recv(100) == b"anyone?"


def test_a_slow_network_takes_its_time_either_way(network: Network, proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert says(connection)
        network.do(proxy.slow(SHORT))
        started = time.monotonic()
        assert says(connection) == b"hello"
        assert time.monotonic() - started >= 2 * SHORT


def test_a_server_that_is_away_looks_away(network: Network) -> None:
    with closing(socket.create_server((HOST, 0))) as server:
        nobody = server.getsockname()[1]
    proxy = network.proxy(nobody, choose({"proxy": ports.PROXIES})["proxy"])
    with pytest.raises(ConnectionResetError), connected(proxy) as connection:
        connection.recv(100)
