"""Decides where a webhook may lead: to public addresses, unless an operator allows others.

Names are resolved in connections.py.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from pydantic_core import Url

Network: TypeAlias = IPv4Network | IPv6Network

HIGHEST_PORT = 65535
DEFAULT_PORTS = {"http": 80, "https": 443}

# Written out: what the standard library calls global has changed from one patch release of Python
# to the next
NOT_PUBLIC: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            # IANA's special-purpose registry for IPv4, and what is no address of a host
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
            "168.63.129.16/32",  # Azure's, of its hosts to their machines: public by number only
            # IPv6: what lies in 2000::/3 and is not the Internet
            "2001::/23",  # Teredo among them, which carries an IPv4 address
            "2001:db8::/32",
            "2002::/16",  # 6to4, which does too
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that IPv6 has given out. Outside lie loopback, link-local, unique local and multicast; IPv4
mapped (::ffff:0:0/96) and translated (64:ff9b::/96), which lead to IPv4 addresses. An operator
behind NAT64 allows that network.
"""


@dataclass(frozen=True)
class AddressRules:
    allow_private: bool
    allowed: tuple[Network, ...]
    ports: tuple[range, ...]

    @classmethod
    def of(
        cls, *, allow_private: bool = False, allowed: str = "", ports: str = "1-65535"
    ) -> "AddressRules":
        """Parses `allowed` and `ports`, which have commas as in the settings. Raises ValueError."""
        return cls(
            allow_private,
            tuple(ip_network(network.strip()) for network in filter(None, allowed.split(","))),
            parse_ports(ports),
        )

    def permits(self, address: str) -> bool:
        """Tells whether a connection to this IP address may be made."""
        if self.allow_private:
            return True
        parsed = ip_address(address.partition("%")[0])  # a zone says by which interface, not where
        return is_public(parsed) or any(parsed in network for network in self.allowed)

    def permits_port(self, port: int) -> bool:
        return any(port in ports for ports in self.ports)

    def refusal(self, url: str) -> str | None:
        """Returns what is wrong with a normalised URL's port or IP address, or None.

        A name is not resolved.
        """
        parts = Url(url)
        host = (parts.host or "").strip("[]")
        if not self.permits_port(parts.port or DEFAULT_PORTS[parts.scheme]):
            return f"port {parts.port} is not among those that webhooks may use"
        if _is_address(host) and not self.permits(host):
            return (
                "must not be a private or otherwise special address, unless the operator sets "
                "PINFLOW_WEBHOOK_ALLOW_PRIVATE_ADDRESSES"
            )
        return None


def is_public(address: IPv4Address | IPv6Address) -> bool:
    if address.version == 6 and address not in GLOBAL_UNICAST:  # noqa: PLR2004 - IP's
        return False
    return not any(address in network for network in NOT_PUBLIC)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def parse_ports(text: str) -> tuple[range, ...]:
    """Parses ports and ranges, as in `80,443,1024-65535`. Raises ValueError."""
    ranges = []
    for part in map(str.strip, text.split(",")):
        first, _, last = part.partition("-")
        ports = range(int(first), int(last or first) + 1)
        if not ports or ports[0] < 1 or ports[-1] > HIGHEST_PORT:
            raise ValueError(f"{part} is no port, and no range of ports")
        ranges.append(ports)
    return tuple(ranges)
