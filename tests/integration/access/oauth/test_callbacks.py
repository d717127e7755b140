"""Hostile and unusual callbacks connect nothing, leak nothing and redirect nowhere else."""

import re
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from cryptography.fernet import Fernet

from services.access.app import create_app
from services.access.oauth.state import StateSealer
from shared.postgres.database import Database
from tests.integration.access.oauth.conftest import CALLBACK, Consent, Pinflow, read_error
from tests.integration.conftest import make_workspace
from tests.support.connections import make_access_settings
from tests.support.infrastructure import with_role
from tests.support.services import running_app

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
SCRIPT = "\"'><script>alert(1)</script>"
EVIL = "https://evil.example/"
RETURN_URL = "https://shop.example/settings?tab=accounts"
Change = Callable[[str], str]


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda _: "x",
        lambda _: "00000000-0000-0000-0000-000000000000",
        lambda state: state[:-1],
        lambda state: state + "=",
        lambda state: state + " ",
        lambda state: state[:60] + ("A" if state[60] != "A" else "B") + state[61:],
        lambda state: state.swapcase(),
        lambda state: state * 100,
        lambda _: "\0",
        lambda _: "\r\nSet-Cookie: a=b",
        lambda _: "é" * 119,
        lambda _: StateSealer([Fernet.generate_key()]).seal(uuid4()),
    ],
)
async def test_a_forged_or_changed_state_is_refused(pinflow: Pinflow, change: Change) -> None:
    consent = await pinflow.consent("rosa")
    state = consent.parameters["state"]
    answer = await pinflow.http.get(CALLBACK, params={**consent.parameters, "state": change(state)})
    assert read_error(answer) == (400, "oauth_state_invalid")
    assert (await pinflow.get_attempt(consent.attempt_id)).json()["status"] == "pending"


async def test_a_state_of_an_attempt_that_is_gone_is_refused(pinflow: Pinflow) -> None:
    sealer = StateSealer([pinflow.simulator.token_key.encode()])
    state = sealer.seal(uuid4())
    answer = await pinflow.http.get(CALLBACK, params={"state": state, "code": "x"})
    assert read_error(answer) == (400, "oauth_state_invalid")


async def test_a_code_of_another_consent_connects_the_workspace_of_the_state_only(
    pinflow: Pinflow, database: Database
) -> None:
    """The state decides the workspace, never a parameter."""
    other = Pinflow(pinflow.http, pinflow.simulator, await make_workspace(database))
    mine, theirs = await pinflow.consent("rosa"), await other.consent("tom")
    before = await other.list_accounts()
    swapped = Consent(mine.attempt_id, {**mine.parameters, "code": theirs.parameters["code"]})
    account_id = (await pinflow.call_back(swapped)).json()["account_id"]
    assert account_id in await pinflow.list_accounts()
    assert await other.list_accounts() == before
    spent = await other.call_back(theirs)
    assert read_error(spent) == (400, "oauth_denied")


async def test_a_wrong_code_is_refused_with_pinterests_reason(pinflow: Pinflow) -> None:
    consent = await pinflow.consent("rosa")
    answer = await pinflow.http.get(CALLBACK, params={**consent.parameters, "code": "made-up"})
    assert read_error(answer) == (400, "oauth_denied")
    assert "did not accept the answer" in answer.json()["detail"]["message"]
    assert "made-up" not in answer.text


@pytest.mark.parametrize("name", ["state", "code", "error"])
async def test_a_doubled_parameter_is_refused(pinflow: Pinflow, name: str) -> None:
    consent = await pinflow.consent("rosa")
    parameters = httpx.QueryParams(consent.parameters).add(name, "x").add(name, "x")
    answer = await pinflow.http.get(CALLBACK, params=parameters)
    assert read_error(answer) == (422, "invalid_parameter")
    assert (await pinflow.get_attempt(consent.attempt_id)).json()["status"] == "pending"


async def test_neither_a_code_nor_an_error_leaves_the_attempt_open(pinflow: Pinflow) -> None:
    consent = await pinflow.consent("rosa")
    answer = await pinflow.http.get(CALLBACK, params={"state": consent.parameters["state"]})
    assert read_error(answer) == (422, "invalid_parameter")
    assert (await pinflow.call_back(consent)).status_code == 200


async def test_a_very_long_code_is_refused_and_not_repeated(pinflow: Pinflow) -> None:
    consent = await pinflow.consent("rosa")
    answer = await pinflow.http.get(CALLBACK, params={**consent.parameters, "code": "c" * 60_000})
    assert read_error(answer) == (422, "invalid_parameter")
    assert len(answer.content) < 2000
    assert (await pinflow.call_back(consent)).status_code == 200


async def test_unknown_parameters_are_ignored(pinflow: Pinflow) -> None:
    consent = await pinflow.consent("rosa")
    answer = await pinflow.http.get(CALLBACK, params={**consent.parameters, "utm_source": "x"})
    assert answer.status_code == 200


@pytest.mark.parametrize("text", [SCRIPT, "a\r\nLocation: https://evil.example/\r\n\r\nx", "\0"])
async def test_what_pinterest_reports_is_shown_as_text_only(pinflow: Pinflow, text: str) -> None:
    consent = await pinflow.consent("rosa", allow=False)
    parameters = {**consent.parameters, "error": text, "error_description": text * 100}
    answer = await pinflow.http.get(CALLBACK, params=parameters, headers=PAGE)
    assert answer.status_code == 400
    assert "<script" not in answer.text
    assert "location" not in answer.headers
    assert not re.search(r"[\0\r]", answer.text)
    again = await pinflow.http.get(CALLBACK, params=parameters)
    assert len(again.json()["detail"]["message"]) < 700
    assert again.json()["detail"]["message"].isprintable()


async def test_a_browser_gets_a_page_without_scripts_that_nobody_stores(
    pinflow: Pinflow,
) -> None:
    answer = await pinflow.call_back(await pinflow.consent("rosa"), **PAGE)
    assert (answer.status_code, answer.headers["content-type"]) == (
        200,
        "text/html; charset=utf-8",
    )
    assert "Account connected" in answer.text
    assert "<script" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ({}, "application/json"),
        ({"Accept": "application/json"}, "application/json"),
        ({"Accept": "text/html;q=0.1, application/json"}, "application/json"),
        ({"Accept": "text/html;q=x"}, "application/json"),
        (PAGE, "text/html; charset=utf-8"),
    ],
)
async def test_the_answer_has_the_form_that_accept_prefers_and_is_private(
    pinflow: Pinflow, accept: dict[str, str], kind: str
) -> None:
    answers = [
        await pinflow.call_back(await pinflow.consent("rosa"), **accept),
        await pinflow.http.get(CALLBACK, params={"state": "x", "code": "y"}, headers=accept),
    ]
    for answer in answers:
        assert answer.headers["content-type"] == kind
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
        {"Forwarded": "host=evil.example"},
        {"Origin": EVIL, "Referer": EVIL},
    ],
)
async def test_the_callbacks_address_never_comes_from_a_request(
    pinflow: Pinflow, headers: dict[str, str]
) -> None:
    started = await pinflow.http.get(
        "/v1/pinterest/oauth/start", headers={**pinflow.headers, **headers}
    )
    query = parse_qs(urlsplit(started.json()["authorization_url"]).query)
    assert query["redirect_uri"] == [f"http://127.0.0.1{CALLBACK}"]
    assert "evil" not in started.text
    consent = await pinflow.consent("rosa")
    answer = await pinflow.call_back(consent, **headers, **PAGE)
    assert answer.status_code == 200
    assert "evil" not in answer.text + str(answer.headers)


@pytest_asyncio.fixture(loop_scope="module")
async def returning(pinflow: Pinflow, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_access_settings(
        pinflow.simulator,
        with_role(database_url, "pinflow_access"),
        pinterest_return_url=RETURN_URL,
        replica="4",
    )
    async with running_app(create_app(settings)) as http:
        yield http


async def test_a_browser_returns_to_the_operators_page_and_nowhere_else(
    pinflow: Pinflow, returning: httpx.AsyncClient
) -> None:
    consent = await pinflow.consent("rosa")
    names = ("return_url", "redirect_uri", "redirect", "next", "url")
    attack = dict.fromkeys(names, EVIL)
    answer = await returning.get(CALLBACK, params={**consent.parameters, **attack}, headers=PAGE)
    account_id = next(
        name
        for name, account in (await pinflow.list_accounts()).items()
        if account["username"] == "rosa"
    )
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        f"{RETURN_URL}&status=connected&account_id={account_id}",
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert consent.parameters["code"] not in answer.headers["location"]


async def test_a_failure_returns_its_code_only(
    pinflow: Pinflow, returning: httpx.AsyncClient
) -> None:
    consent = await pinflow.consent("rosa", allow=False)
    parameters = {**consent.parameters, "error": f"{SCRIPT}\r\nX: y"}
    for sent, code in ((parameters, "oauth_denied"), ({"state": EVIL}, "oauth_state_invalid")):
        answer = await returning.get(CALLBACK, params=sent, headers=PAGE)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"{RETURN_URL}&status=failed&code={code}",
        )


async def test_a_program_gets_no_redirect(pinflow: Pinflow, returning: httpx.AsyncClient) -> None:
    consent = await pinflow.consent("rosa")
    answer = await returning.get(CALLBACK, params=consent.parameters)
    assert (answer.status_code, answer.json()["status"]) == (200, "connected")
