"""The ways to try: each makes a check of one endpoint, for whoever is `theirs` and `strangers`."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx

from tests.acceptance.tenancy.tenants import Tenants

Check = Callable[[Tenants], None]
Named = Callable[[Tenants], str]
"""What of the owner's is tried to get at."""


def one_thing(path: str, owned: Named, unknown: Callable[[], object] = uuid4) -> Check:
    """What the owner can read is to the other what does not exist: to the letter."""

    def check(tenants: Tenants) -> None:
        assert tenants.mine.get(path.format(owned(tenants))).status_code == HTTPStatus.OK
        foreign, absent = (
            tenants.theirs.get(path.format(owned(tenants))),
            tenants.theirs.get(path.format(unknown())),
        )
        require_alike(foreign, absent)

    return check


def a_change(
    method: str, path: str, owned: Named, body: object = None, unknown: Callable[[], object] = uuid4
) -> Check:
    """What the other tries on the owner's thing is answered as on one that does not exist, and
    changes nothing.
    """

    def check(tenants: Tenants) -> None:
        before = tenants.state()
        foreign, absent = (
            tenants.theirs.request(method, path.format(one), json=body)
            for one in (owned(tenants), unknown())
        )
        require_alike(foreign, absent)
        assert tenants.state() == before

    return check


def a_change_on_an_account(
    method: str, path: str, fields: dict[str, Any], *, in_body: bool
) -> Check:
    """The same, where it is the account that is named, in the body or as a parameter."""

    def check(tenants: Tenants) -> None:
        before = tenants.state()

        def ask(account: str) -> httpx.Response:
            url, named = path.format(board=tenants.board), {"account_id": account, **fields}
            if in_body:
                return tenants.theirs.request(method, url, json=named)
            return tenants.theirs.request(method, url, params=named)

        require_alike(
            ask(tenants.account), ask(str(uuid4())), codes={"not_found", "board_not_found"}
        )
        assert tenants.state() == before

    return check


def many(path: str, owned: Named) -> Check:
    """In a bulk request the owner's thing fares as one that does not exist."""

    def check(tenants: Tenants) -> None:
        before = tenants.state()
        foreign, absent = owned(tenants), str(uuid4())
        answers = [tenants.theirs.post(path, json={"ids": [one]}) for one in (foreign, absent)]
        assert [answer.status_code for answer in answers] == [HTTPStatus.OK] * 2
        assert answers[0].json()["succeeded_count"] == 0
        assert without(answers[0].text, foreign) == without(answers[1].text, absent)
        assert tenants.state() == before

    return check


def a_list(path: str, *filters: Named) -> Check:
    """The owner sees something; a stranger nothing, and no count of it, even asking by the owner's
    ids.
    """

    def check(tenants: Tenants) -> None:
        assert len(tenants.mine.get(path).json()) > 0
        for query in ("", *(one(tenants) for one in filters)):
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
    assert _varying(foreign) == _varying(absent)


def without(text: str, asked: str) -> str:
    """What is said apart from repeating what was asked for."""
    return text.replace(asked, "…")


def _varying(answer: httpx.Response) -> list[str]:
    return sorted(name for name in answer.headers if name not in {"date", "x-request-id"})
