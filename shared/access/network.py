"""Tells which addresses count as one client."""

from ipaddress import IPv6Address, IPv6Network, ip_address

MAX_NAME_LENGTH = 64


def find_network(address: str) -> str:
    """Returns an IPv4 address itself, and of IPv6 the 64 bits that one customer has.

    Otherwise every attempt of a client could come from another address.
    """
    try:
        ip = ip_address(address)
    except ValueError:  # a proxy may write what it likes
        return address[:MAX_NAME_LENGTH]
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))
    return str(ip)
