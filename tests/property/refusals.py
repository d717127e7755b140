"""What a refusal must be, whoever provoked it: one that the contract has a code for, and that can
be sent.
"""

from collections.abc import Collection

from shared.contract.errors import ApiError


def check(refusal: ApiError, codes: Collection[str]) -> None:
    assert refusal.code in codes
    assert refusal.message.encode()
