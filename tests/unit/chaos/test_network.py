"""Each fault of a proxy has the expected effect on a client."""

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


def exchange(connection: socket.socket, text: bytes = b"hello") -> bytes:
    connection.sendall(text)
    return connection.recv(100)


def test_a_proxy_forwards_data_in_both_directions(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert exchange(connection) == b"hello"


def test_a_cut_resets_old_and_new_connections_until_it_ends(network: Network, proxy: Proxy) -> None:
    with connected(proxy) as old:
        assert exchange(old)
        network.do(proxy.cut())
        with pytest.raises(ConnectionResetError):
            exchange(old)
    with pytest.raises(ConnectionResetError), connected(proxy) as new:
        new.recv(100)
    network.do(proxy.mend())
    with connected(proxy) as again:
        assert exchange(again) == b"hello"


def test_a_silence_keeps_connections_open_and_delivers_the_data_afterwards(
    network: Network, proxy: Proxy
) -> None:
    with connected(proxy) as connection:
        assert exchange(connection)
        network.do(proxy.silence())
        connection.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            exchange(connection, b"anyone?")
        network.do(proxy.mend())
        connection.settimeout(5)
        assert connection.recv(100) == b"anyone?"


def test_a_slow_network_delays_both_directions(network: Network, proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert exchange(connection)
        network.do(proxy.slow(SHORT))
        started = time.monotonic()
        assert exchange(connection) == b"hello"
        assert time.monotonic() - started >= 2 * SHORT


def test_a_connection_to_a_stopped_server_is_reset(network: Network) -> None:
    with closing(socket.create_server((HOST, 0))) as server:
        closed_port = server.getsockname()[1]
    proxy = network.proxy(closed_port, choose({"proxy": ports.PROXIES})["proxy"])
    with pytest.raises(ConnectionResetError), connected(proxy) as connection:
        connection.recv(100)
