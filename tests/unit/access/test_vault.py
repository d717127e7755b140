"""Tokens are encrypted with the first key, opened with every key, and only for their account."""

from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from services.access.connections.vault import TokenKeyMissing, Tokens, Vault, derive_key_id

OLD, NEW, OTHER = (Fernet.generate_key() for _ in range(3))
TOKENS = Tokens(SecretStr("pina_access"), SecretStr("pinr_refresh"))
ACCOUNT = uuid4()


def test_tokens_are_sealed_and_opened() -> None:
    vault = Vault([NEW])
    secret = vault.seal(ACCOUNT, TOKENS)
    assert vault.open(ACCOUNT, secret) == TOKENS
    assert b"pina_access" not in secret
    assert vault.seal(ACCOUNT, TOKENS) != secret


def test_a_grant_without_refresh_token_is_sealed() -> None:
    vault = Vault([NEW])
    tokens = Tokens(SecretStr("pina_access"), None)
    assert vault.open(ACCOUNT, vault.seal(ACCOUNT, tokens)) == tokens


def test_every_key_opens_and_the_first_seals() -> None:
    secret = Vault([OLD]).seal(ACCOUNT, TOKENS)
    both = Vault([NEW, OLD])
    assert both.open(ACCOUNT, secret) == TOKENS
    assert both.key_id == derive_key_id(NEW)
    assert both.key_ids == (derive_key_id(NEW), derive_key_id(OLD))
    assert Vault([NEW]).open(ACCOUNT, both.seal(ACCOUNT, TOKENS)) == TOKENS


def test_without_the_key_the_tokens_stay_closed() -> None:
    secret = Vault([OLD]).seal(ACCOUNT, TOKENS)
    with pytest.raises(TokenKeyMissing, match="PINFLOW_PINTEREST_TOKEN_KEYS") as raised:
        Vault([NEW, OTHER]).open(ACCOUNT, secret)
    assert "pina_access" not in str(raised.value)


@pytest.mark.parametrize("position", [0, 20, -1])
def test_changed_tokens_stay_closed(position: int) -> None:
    secret = bytearray(Vault([NEW]).seal(ACCOUNT, TOKENS))
    secret[position] ^= 1
    with pytest.raises(TokenKeyMissing):
        Vault([NEW]).open(ACCOUNT, bytes(secret))


def test_the_tokens_of_another_account_stay_closed() -> None:
    vault = Vault([NEW])
    with pytest.raises(TokenKeyMissing, match="another account"):
        vault.open(uuid4(), vault.seal(ACCOUNT, TOKENS))


def test_a_key_id_tells_nothing_of_the_key() -> None:
    assert len(derive_key_id(NEW)) == 8
    assert derive_key_id(NEW) not in NEW.decode()
