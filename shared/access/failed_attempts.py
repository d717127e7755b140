"""How often an address may try keys that are not good, before it has to wait."""

import time
from collections import OrderedDict
from ipaddress import IPv6Address, IPv6Network, ip_address

from shared.access.cache import Clock

MOST_ADDRESSES = 10_000
LONGEST_NAME = 64
SLACK_SECONDS = 1e-6
"""Of sums of floats that ought to be equal."""


class FailedTries:
    """Lets an address fail `most` times at once, then once in every `window_seconds` / `most`
    (GCRA: one number an address, the moment at which all its failures are forgotten).

    In this process's memory: five services with R replicas each allow 5 R times as many.
    MOST_ADDRESSES are remembered, the one that failed longest ago makes room.
    """

    def __init__(self, most: int, window_seconds: float, clock: Clock = time.monotonic) -> None:
        self._each = window_seconds / most
        self._room = window_seconds - self._each
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()

    def take(self, address: str) -> float:
        """0 when `address` may try; the try counts until it is given back.

        Else the seconds to wait, and nothing is counted.
        """
        if wait := self.wait(address):
            return wait
        name = network_of(address)
        self._until[name] = max(self._until.get(name, 0.0), self._clock()) + self._each
        self._until.move_to_end(name)
        if len(self._until) > MOST_ADDRESSES:
            self._until.popitem(last=False)
        return 0.0

    def wait(self, address: str) -> float:
        """Seconds until `address` may try again; 0 when it may now."""
        seconds = self._until.get(network_of(address), 0.0) - self._clock() - self._room
        return seconds if seconds > SLACK_SECONDS else 0.0

    def give_back(self, address: str) -> None:
        """The try was none: the key was good, or nobody could tell."""
        name = network_of(address)
        if name in self._until:
            self._until[name] -= self._each


def network_of(address: str) -> str:
    """Who is counted as one: an IPv4 address; of IPv6 the 64 bits that one customer has, or every
    try could come from another address.
    """
    try:
        ip = ip_address(address)
    except ValueError:  # a proxy may write what it likes
        return address[:LONGEST_NAME]
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))
    return str(ip)
