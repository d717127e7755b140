"""The address of the callback comes from the settings, which refuse what can't work."""

from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import ValidationError

from services.access.config import AccessSettings

APP: dict[str, Any] = {
    "pinterest_mode": "simulated",
    "pinterest_app_id": "1000001",
    "pinterest_app_secret": "simulated",
    "pinterest_token_keys": Fernet.generate_key().decode(),
}


def test_the_callback_is_at_the_gateway_unless_another_address_is_set() -> None:
    path = "/v1/pinterest/oauth/callback"
    assert AccessSettings(base_url="https://pins.shop.example/").redirect_url == (
        f"https://pins.shop.example{path}"
    )
    own = "https://shop.example/callback"
    assert AccessSettings(pinterest_redirect_url=own).redirect_url == own


@pytest.mark.parametrize("name", ["pinterest_redirect_url", "pinterest_return_url"])
@pytest.mark.parametrize("url", ["javascript:alert(1)", "//evil.example", "/x", "https://", "a b"])
def test_an_address_must_be_a_web_address(name: str, url: str) -> None:
    with pytest.raises(ValidationError):
        AccessSettings(**dict[str, Any]({name: url}))


def test_rights_may_be_separated_by_commas_and_blanks() -> None:
    settings = AccessSettings(**APP, pinterest_scopes="user_accounts:read, boards:read pins:read,")
    assert settings.asked_scopes == ("user_accounts:read", "boards:read", "pins:read")


def test_without_the_right_to_see_the_user_the_service_does_not_start() -> None:
    with pytest.raises(ValidationError, match=r"lacks user_accounts:read"):
        AccessSettings(**APP, pinterest_scopes="boards:read")
    assert AccessSettings(pinterest_scopes="boards:read").asked_scopes == ("boards:read",)
