"""Asks again where a busy machine may have no answer yet."""

from collections.abc import Callable
from contextlib import suppress

import httpx

from tests.support.deployment import is_status_behind
from tests.support.waiting import wait_until

PATH = "/readyz"
"""Each of its checks has 1.5 s. On a busy machine one may take longer, although nothing is wrong.
"""


def read_readiness(
    client: httpx.Client, is_expected: Callable[[httpx.Response], bool], *, method: str = "GET"
) -> httpx.Response:
    """Asks until the answer is as expected. Returns the last answer, expected or not."""
    answers: list[httpx.Response] = []

    def is_reported() -> bool:
        answers.append(client.request(method, PATH))
        return is_expected(answers[-1])

    with suppress(AssertionError):  # the caller's comparison has a better message
        wait_until(is_reported)
    return answers[-1]


def get_and_head(client: httpx.Client, path: str) -> tuple[httpx.Response, httpx.Response]:
    """Requests a path with GET, then with HEAD. Asks /readyz until each answer is 200."""
    if path != PATH:
        return client.get(path), client.head(path)
    got, head = (
        read_readiness(client, lambda answer: answer.is_success, method=method)
        for method in ("GET", "HEAD")
    )
    return got, head


def get_known(client: httpx.Client, path: str) -> httpx.Response:
    """Reads what belongs to an import. Asks again while status can't say whether the import exists.

    It may not have read a new import yet. For an unknown new id, it must ask ingest within 1 s.
    """
    answers: list[httpx.Response] = []

    def is_known() -> bool:
        answers.append(client.get(path))
        return not is_status_behind(answers[-1])

    wait_until(is_known)
    return answers[-1]
