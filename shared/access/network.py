"""Groups IP addresses into clients."""

from ipaddress import IPv6Address, IPv6Network, ip_address

MAX_NAME_LENGTH = 64


def find_network(address: str) -> str:
    """Returns an IPv4 address unchanged, and the /64 network of an IPv6 address.

    A provider assigns a /64 network to one customer, who could use a different address for each
    attempt. An IPv4-mapped IPv6 address becomes the IPv4 address. Text that is not an address is
    returned too, cut to MAX_NAME_LENGTH characters.
    """
    try:
        ip = ip_address(address)
    except ValueError:  # a proxy may send any text
        return address[:MAX_NAME_LENGTH]
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))
    return str(ip)
