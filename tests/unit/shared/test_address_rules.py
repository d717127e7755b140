"""Addresses and ports that users' URLs may lead to."""

import pytest

from services.webhooks.subscriptions.schemas import WebhookCreate
from shared.http.address_rules import AddressRules, parse_ports

VARIABLES = "PINFLOW_WEBHOOK"
RULES = AddressRules.from_settings(variables=VARIABLES)

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
def test_a_private_or_special_address_is_forbidden(address: str) -> None:
    assert not AddressRules.from_settings(variables=VARIABLES).permits(address)
    assert AddressRules.from_settings(variables=VARIABLES, allow_private=True).permits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_permitted(address: str) -> None:
    assert AddressRules.from_settings(variables=VARIABLES).permits(address)


def test_only_the_allowed_private_network_is_permitted() -> None:
    rules = AddressRules.from_settings(variables=VARIABLES, allowed="10.1.0.0/16, fd00:1::/64")
    assert [
        rules.permits(address) for address in ("10.1.2.3", "10.2.0.1", "fd00:1::5", "fd00:2::5")
    ] == [
        True,
        False,
        True,
        False,
    ]


def test_allowed_ports_are_numbers_and_ranges() -> None:
    rules = AddressRules.from_settings(variables=VARIABLES, ports="80, 443,8000-8002")
    assert [port for port in (22, 80, 443, 7999, 8000, 8002, 8003) if rules.permits_port(port)] == [
        80,
        443,
        8000,
        8002,
    ]


@pytest.mark.parametrize("text", ["", "http", "0", "65536", "90-80", "80,,443", "80,abc", "-1"])
def test_invalid_port_lists_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="is not a port or a range"):
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
def test_a_private_address_is_recognized_in_every_spelling(host: str) -> None:
    url = WebhookCreate(url=f"http://{host}/", secret="x" * 16).url
    violation = AddressRules.from_settings(variables=VARIABLES).find_violation(url) or ""
    assert violation.startswith("the address is private or otherwise special")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "hooks.localhost", "a.b.localhost."]
)
def test_localhost_is_refused_like_its_addresses(host: str) -> None:
    url = WebhookCreate(url=f"http://{host}:8787/", secret="x" * 16).url
    violation = RULES.find_violation(url) or ""
    assert violation.startswith("the address is private or otherwise special")
    for rules in (
        AddressRules.from_settings(variables=VARIABLES, allow_private=True),
        AddressRules.from_settings(variables=VARIABLES, allowed="127.0.0.0/8"),
        AddressRules.from_settings(variables=VARIABLES, allowed="::1/128"),
    ):
        assert rules.find_violation(url) is None


@pytest.mark.parametrize("host", ["localhost.example", "notlocalhost", "hooks.mylocalhost"])
def test_a_name_that_only_contains_localhost_is_not_refused(host: str) -> None:
    assert RULES.find_violation(WebhookCreate(url=f"http://{host}/", secret="x" * 16).url) is None


@pytest.mark.parametrize(
    ("url", "violation"),
    [
        ("https://hooks.example/a", None),
        ("https://hooks.example:8443/", None),
        ("https://8.8.8.8/", None),
        ("http://hooks.example:25/", RULES.describe_forbidden_port(25)),
        ("https://hooks.example:22/", RULES.describe_forbidden_port(22)),
    ],
)
def test_a_url_is_checked_without_resolving_its_host(url: str, violation: str | None) -> None:
    assert (
        AddressRules.from_settings(variables=VARIABLES, ports="80,443,1024-65535").find_violation(
            WebhookCreate(url=url, secret="x" * 16).url
        )
        == violation
    )
