"""Rows for accounts that an API key does not permit fail. The other rows are not affected."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.factories import ACCOUNT, submitted_row
from tests.support.imports import validate

SPELLINGS: list[Callable[[UUID], str]] = [
    str,
    lambda account_id: str(account_id).upper(),
    lambda account_id: f"  {account_id} ",
    lambda account_id: account_id.hex,
    lambda account_id: account_id.urn,
]


@pytest.mark.parametrize("spell", SPELLINGS, ids=["usual", "upper case", "blanks", "hex", "urn"])
def test_the_allow_list_ignores_the_spelling_of_an_account_id(spell: Callable[[UUID], str]) -> None:
    rows: list[Any] = [
        submitted_row(account_id=spell(ACCOUNT)),
        submitted_row(account_id=spell(uuid4())),
    ]
    checked = validate(rows, permitted={ACCOUNT})
    assert [row.row_number for row in checked.valid] == [1]
    assert [(row.row_number, row.error_code) for row in checked.failed] == [
        (2, "account_not_permitted")
    ]


def test_permitted_rows_are_unchanged_and_forbidden_rows_fail_with_key_and_account() -> None:
    other = uuid4()
    rows: list[Any] = [
        submitted_row(account_id=str(other), idempotency_key="k"),
        submitted_row(title=""),
        submitted_row(),
    ]
    parsed = validate(rows)
    checked = validate(rows, permitted={ACCOUNT})
    assert checked.valid == parsed.valid[1:]
    foreign, faulty = checked.failed
    assert (foreign.row_number, foreign.idempotency_key) == (1, "k")
    assert foreign.error_message == (
        f"account_id: This API key may not publish to account {other}. Use a key that may."
    )
    (fault,) = foreign.errors or []
    assert (fault.code, fault.field, fault.value) == (
        "account_not_permitted",
        "account_id",
        str(other),
    )
    assert (faulty.row_number, faulty.error_code) == (2, "validation_error")


def test_a_row_with_invalid_content_lists_its_own_faults_before_the_allow_lists() -> None:
    (result,) = validate(
        [submitted_row(account_id=str(uuid4()), title="")], permitted={ACCOUNT}
    ).failed
    assert result.error_code == "validation_error"
    assert [fault.code for fault in result.errors or []] == ["blank", "account_not_permitted"]
