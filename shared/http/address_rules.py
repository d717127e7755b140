"""Decides which addresses and ports users' URLs may lead to (protection against SSRF).

Only public addresses are allowed, unless an operator allows others. checked_connections.py
resolves hosts. Used for receivers of webhooks and for images and videos of pins. No I/O.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, TypeAlias

from pydantic import AfterValidator
from pydantic_core import Url

Network: TypeAlias = IPv4Network | IPv6Network

MAX_PORT = 65535
DEFAULT_PORTS = {"http": 80, "https": 443}

# Written out, because the standard library's `is_global` changes between patch releases of Python
SPECIAL_NETWORKS: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            # IANA's special-purpose registry for IPv4, and addresses that no host has
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "168.63.129.16/32",  # Azure's host service for its virtual machines: looks public
            # IPv6: networks in 2000::/3 that are not public
            "2001::/23",  # includes Teredo, which embeds an IPv4 address
            "2001:db8::/32",
            "2002::/16",  # 6to4, which embeds one too
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
GLOBAL_UNICAST = IPv6Network("2000::/3")
"""The network that contains all public IPv6 addresses.

Outside it are loopback, link-local, unique local and multicast addresses, and two networks that
reach IPv4 addresses: mapped (::ffff:0:0/96) and translated (64:ff9b::/96). An operator behind NAT64
can allow the translated ones.
"""

LOOPBACK = ("127.0.0.1", "::1")
"""The addresses of the host name localhost."""


@dataclass(frozen=True)
class AddressRules:
    allow_private: bool
    allowed: tuple[Network, ...]
    ports: tuple[range, ...]
    variables: str
    """The beginning of the names of the operator's settings, which messages name."""

    @classmethod
    def from_settings(
        cls,
        *,
        variables: str,
        allow_private: bool = False,
        allowed: str = "",
        ports: str = "1-65535",
    ) -> "AddressRules":
        """Parses `allowed` and `ports`, comma-separated as in the settings. Raises ValueError."""
        return cls(
            allow_private,
            tuple(ip_network(network.strip()) for network in filter(None, allowed.split(","))),
            parse_ports(ports),
            variables,
        )

    def permits(self, address: str) -> bool:
        """Returns whether connections to this IP address are allowed."""
        if self.allow_private:
            return True
        parsed = ip_address(address.partition("%")[0])  # a zone names the interface, not the target
        return is_public(parsed) or any(parsed in network for network in self.allowed)

    def permits_port(self, port: int) -> bool:
        return any(port in ports for ports in self.ports)

    def find_violation(self, url: str) -> str | None:
        """Returns the reason why a normalized URL's port or IP address is forbidden, or None.

        Does not resolve a host name. Only localhost and names below it are known: they always lead
        to this machine (RFC 6761).
        """
        parts = Url(url)
        host = (parts.host or "").strip("[]")
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        if not self.permits_port(port):
            return self.describe_forbidden_port(port)
        addresses = LOOPBACK if _is_localhost(host) else (host,) if _is_address(host) else ()
        if addresses and not any(map(self.permits, addresses)):
            return (
                "the address is private or otherwise special. Use a public address, or ask the "
                f"operator to set {self.variables}_ALLOWED_NETWORKS"
            )
        return None

    def describe_forbidden_host(self) -> str:
        """Describes a host that is unknown or private. Users must not learn which it is."""
        return (
            "the host can't be resolved, or its address is not public. Check the host's name, or "
            f"ask the operator to set {self.variables}_ALLOWED_NETWORKS"
        )

    def describe_forbidden_port(self, port: int) -> str:
        return (
            f"port {port} is not allowed. Use another port, or ask the operator to set "
            f"{self.variables}_PORTS"
        )


def is_public(address: IPv4Address | IPv6Address) -> bool:
    if address.version == 6 and address not in GLOBAL_UNICAST:  # noqa: PLR2004 - IP's version
        return False
    return not any(address in network for network in SPECIAL_NETWORKS)


def _is_localhost(host: str) -> bool:
    return host.rstrip(".").lower().rpartition(".")[2] == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def parse_ports(text: str) -> tuple[range, ...]:
    """Parses ports and port ranges, such as `80,443,1024-65535`. Raises ValueError."""
    ranges = []
    for part in map(str.strip, text.split(",")):
        match = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", part, re.ASCII)
        ports = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not ports or ports[0] < 1 or ports[-1] > MAX_PORT:
            raise ValueError(
                f"{part!r} is not a port or a range such as 8000-8080. Use numbers from 1 to "
                f"{MAX_PORT}, the lower one first"
            )
        ranges.append(ports)
    return tuple(ranges)


def _require_ports(text: str) -> str:
    parse_ports(text)  # raises ValueError
    return text


PortRanges: TypeAlias = Annotated[str, AfterValidator(_require_ports)]
"""A setting's comma-separated ports and port ranges."""
