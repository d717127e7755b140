"""Signatures, checked with published examples."""

import base64

import pytest

from services.webhooks.delivery.signing import pinbridge_signature, standard_key, standard_signature


def test_the_signature_matches_the_standard_webhooks_example() -> None:
    """The example is from the specification's libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # pragma: allowlist secret
    signature = standard_signature(
        secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_signature_matches_the_example_of_rfc_4231() -> None:
    """Uses test case 2 of the RFC."""
    assert pinbridge_signature("Jefe", b"what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_a_secret_without_the_prefix_is_its_own_key() -> None:
    assert standard_key("grün und geheim") == "grün und geheim".encode()
    assert standard_key("whsec_" + base64.b64encode(b"key").decode()) == b"key"


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64!", "whsec_abc"])
def test_the_text_after_the_prefix_must_be_base64(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        standard_key(secret)
