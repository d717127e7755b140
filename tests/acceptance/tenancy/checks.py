"""Builds checks of one endpoint for the clients `theirs` and `strangers`."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx

from tests.acceptance.patience import get_known
from tests.acceptance.tenancy.tenants import Tenants

Check = Callable[[Tenants], None]
OwnedId = Callable[[Tenants], str]
"""Returns the id of one of the owner's resources."""


def reads_as_unknown(path: str, owned: OwnedId, unknown: Callable[[], object] = uuid4) -> Check:
    """Checks that a foreign resource gets exactly the answer of an unknown one."""

    def check(tenants: Tenants) -> None:
        assert tenants.mine.get(path.format(owned(tenants))).status_code == HTTPStatus.OK
        foreign, absent = (
            get_known(tenants.theirs, path.format(owned(tenants))),
            get_known(tenants.theirs, path.format(unknown())),
        )
        require_alike(foreign, absent)

    return check


def changes_as_unknown(
    method: str,
    path: str,
    owned: OwnedId,
    body: object = None,
    unknown: Callable[[], object] = uuid4,
) -> Check:
    """Checks that a change of a foreign resource gets the answer for an unknown resource.

    Nothing may change.
    """

    def check(tenants: Tenants) -> None:
        before = tenants.state()
        foreign, absent = (
            tenants.theirs.request(method, path.format(resource_id), json=body)
            for resource_id in (owned(tenants), unknown())
        )
        require_alike(foreign, absent)
        assert tenants.state() == before

    return check


def changes_account_as_unknown(
    method: str, path: str, fields: dict[str, Any], *, in_body: bool
) -> Check:
    """Checks that a change that names a foreign account gets the answer for an unknown account.

    `in_body`: the account is named in the body, else as a query parameter. Nothing may change.
    """

    def check(tenants: Tenants) -> None:
        before = tenants.state()

        def send(account: str) -> httpx.Response:
            url, values = path.format(board=tenants.board), {"account_id": account, **fields}
            if in_body:
                return tenants.theirs.request(method, url, json=values)
            return tenants.theirs.request(method, url, params=values)

        require_alike(
            send(tenants.account), send(str(uuid4())), codes={"not_found", "board_not_found"}
        )
        assert tenants.state() == before

    return check


def bulk_as_unknown(path: str, owned: OwnedId) -> Check:
    """Checks that a bulk request treats a foreign resource like an unknown one."""

    def check(tenants: Tenants) -> None:
        before = tenants.state()
        foreign, absent = owned(tenants), str(uuid4())
        answers = [
            tenants.theirs.post(path, json={"ids": [resource_id]})
            for resource_id in (foreign, absent)
        ]
        assert [answer.status_code for answer in answers] == [HTTPStatus.OK] * 2
        assert answers[0].json()["succeeded_count"] == 0
        assert without(answers[0].text, foreign) == without(answers[1].text, absent)
        assert tenants.state() == before

    return check


def lists_nothing(path: str, *filters: OwnedId) -> Check:
    """Checks that a stranger's list and total are empty, even with filters by the owner's ids."""

    def check(tenants: Tenants) -> None:
        assert len(tenants.mine.get(path).json()) > 0
        for query in ("", *(build_query(tenants) for build_query in filters)):
            listed = tenants.strangers.get(path + query)
            assert (listed.status_code, listed.json()) == (HTTPStatus.OK, [])
            assert listed.headers.get("x-total-count", "0") == "0"
            assert "link" not in listed.headers

    return check


def require_alike(
    foreign: httpx.Response,
    absent: httpx.Response,
    *,
    codes: frozenset[str] | set[str] = frozenset({"not_found"}),
) -> None:
    assert (foreign.status_code, foreign.json()) == (absent.status_code, absent.json())
    assert foreign.status_code == HTTPStatus.NOT_FOUND
    assert foreign.json()["detail"]["code"] in codes
    assert _header_names(foreign) == _header_names(absent)


def without(text: str, value: str) -> str:
    """Returns the text without the value that the request named."""
    return text.replace(value, "…")


def _header_names(answer: httpx.Response) -> list[str]:
    return sorted(name for name in answer.headers if name not in {"date", "x-request-id"})
