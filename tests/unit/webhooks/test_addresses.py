"""Where webhooks may lead."""

import pytest

from services.webhooks.delivery.ssrf import AddressRules, parse_ports
from services.webhooks.subscriptions.schemas import WebhookCreate

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "223.255.255.255",
    "2606:4700::1111",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not AddressRules.of().permits(address)
    assert AddressRules.of(allow_private=True).permits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_permitted(address: str) -> None:
    assert AddressRules.of().permits(address)


def test_an_allowed_network_is_permitted_and_its_neighbours_are_not() -> None:
    rules = AddressRules.of(allowed="10.1.0.0/16, fd00:1::/64")
    assert [rules.permits(one) for one in ("10.1.2.3", "10.2.0.1", "fd00:1::5", "fd00:2::5")] == [
        True,
        False,
        True,
        False,
    ]


def test_ports_are_numbers_and_ranges() -> None:
    rules = AddressRules.of(ports="80, 443,8000-8002")
    assert [port for port in (22, 80, 443, 7999, 8000, 8002, 8003) if rules.permits_port(port)] == [
        80,
        443,
        8000,
        8002,
    ]


@pytest.mark.parametrize("text", ["", "http", "0", "65536", "90-80", "80,,443", "-1"])
def test_what_are_no_ports_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|invalid literal"):
        parse_ports(text)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "①②⑦.⓪.⓪.①",
    ],
)
def test_an_address_is_seen_through_however_it_is_spelt(host: str) -> None:
    url = WebhookCreate(url=f"http://{host}/", secret="x" * 16).url
    refusal = AddressRules.of().refusal(url) or ""
    assert refusal.startswith("must not be a private or otherwise special address")


@pytest.mark.parametrize(
    ("url", "refusal"),
    [
        ("https://hooks.example/a", None),
        ("http://localhost/", None),  # a name: told when it is looked up
        ("https://hooks.example:8443/", None),
        ("https://8.8.8.8/", None),
        ("http://hooks.example:25/", "port 25 is not among those that webhooks may use"),
        ("https://hooks.example:22/", "port 22 is not among those that webhooks may use"),
    ],
)
def test_what_a_url_tells_without_being_looked_up(url: str, refusal: str | None) -> None:
    assert (
        AddressRules.of(ports="80,443,1024-65535").refusal(
            WebhookCreate(url=url, secret="x" * 16).url
        )
        == refusal
    )
