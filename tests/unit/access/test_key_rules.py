"""A key cannot grant rights that it lacks."""

from collections.abc import Collection
from uuid import UUID, uuid4

import pytest

from services.access.keys.rules import require_no_more_rights
from shared.access.keys import Scope
from shared.access.model import Principal
from shared.contract.errors import ApiError

A, B = uuid4(), uuid4()
READ, WRITE, DESTRUCTIVE = Scope


def key(*scopes: Scope, accounts: Collection[UUID] | None = None) -> Principal:
    return Principal(
        uuid4(), uuid4(), frozenset(scopes), None if accounts is None else frozenset(accounts)
    )


@pytest.mark.parametrize(
    ("principal", "scopes", "account_ids"),
    [
        (key(*Scope), list(Scope), None),
        (key(*Scope), [READ], [A, B]),
        (key(WRITE), [WRITE], None),
        (key(READ, WRITE, accounts=[A, B]), ["read", "write"], [A]),
    ],
)
def test_a_key_can_grant_the_rights_that_it_has(
    principal: Principal, scopes: list[str], account_ids: list[UUID] | None
) -> None:
    require_no_more_rights(principal, scopes, account_ids)


@pytest.mark.parametrize(
    ("principal", "scopes", "account_ids", "code", "details"),
    [
        (key(WRITE), [READ, WRITE], None, "insufficient_scope", {"required_scope": "read"}),
        (
            key(READ, WRITE),
            list(Scope),
            None,
            "insufficient_scope",
            {"required_scope": "destructive"},
        ),
        (key(WRITE, accounts=[A]), [WRITE], None, "account_not_permitted", {}),
        (
            key(WRITE, accounts=[A]),
            [WRITE],
            [A, B],
            "account_not_permitted",
            {"account_ids": [str(B)]},
        ),
    ],
)
def test_a_key_cannot_grant_rights_that_it_lacks(
    principal: Principal,
    scopes: list[str],
    account_ids: list[UUID] | None,
    code: str,
    details: dict[str, object],
) -> None:
    with pytest.raises(ApiError) as error:
        require_no_more_rights(principal, scopes, account_ids)
    assert (error.value.status, error.value.code, error.value.details) == (403, code, details)
