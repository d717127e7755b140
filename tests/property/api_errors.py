"""Checks errors: each has a code of the contract, and a message that can be encoded."""

from collections.abc import Collection

from shared.contract.errors import ApiError


def check_error(error: ApiError, codes: Collection[str]) -> None:
    assert error.code in codes
    assert error.message.encode()
