"""The state of OAuth is signed and encrypted: no other text is ever accepted."""

import string
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet, InvalidToken
from hypothesis import given
from hypothesis import strategies as st

from services.access.oauth.state import InvalidState, StateSealer
from tests.property.profiles import examples

KEY, NEWER = Fernet.generate_key(), Fernet.generate_key()
SEALER = StateSealer([KEY])
URL_SAFE = set(string.ascii_letters + string.digits + "-_")


@examples(100)
@given(st.uuids())
def test_a_state_opens_to_its_attempt_and_needs_no_escaping(attempt_id: UUID) -> None:
    state = SEALER.seal(attempt_id)
    assert SEALER.open(state) == attempt_id
    assert set(state) <= URL_SAFE
    assert str(attempt_id) not in state


@examples(100)
@given(st.integers(0, 118), st.sampled_from(sorted(URL_SAFE)))
def test_no_changed_character_is_accepted(position: int, character: str) -> None:
    state = SEALER.seal(uuid4())
    changed = state[:position] + character + state[position + 1 :]
    if changed != state:
        with pytest.raises(InvalidState):
            SEALER.open(changed)


@examples(100)
@given(st.text())
def test_no_other_text_is_accepted(text: str) -> None:
    with pytest.raises(InvalidState):
        SEALER.open(text)


@pytest.mark.parametrize("addition", ["=", "==", " ", "\n", "\0", "!", "A", "é"])
def test_nothing_may_be_added(addition: str) -> None:
    state = SEALER.seal(uuid4())
    for changed in (state + addition, addition + state, state[:50] + addition + state[50:]):
        with pytest.raises(InvalidState):
            SEALER.open(changed)


def test_another_installations_state_is_refused() -> None:
    with pytest.raises(InvalidState):
        SEALER.open(StateSealer([NEWER]).seal(uuid4()))


def test_a_state_is_no_token_and_a_token_no_state() -> None:
    attempt_id = uuid4()
    with pytest.raises(InvalidToken):
        Fernet(KEY).decrypt(f"{SEALER.seal(attempt_id)}=")
    with pytest.raises(InvalidState):
        SEALER.open(Fernet(KEY).encrypt(attempt_id.bytes).decode().rstrip("="))


def test_a_state_outlives_a_new_key() -> None:
    attempt_id = uuid4()
    state = SEALER.seal(attempt_id)
    assert StateSealer([NEWER, KEY]).open(state) == attempt_id
    with pytest.raises(InvalidState):
        StateSealer([NEWER]).open(state)
