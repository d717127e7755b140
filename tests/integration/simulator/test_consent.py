"""The simulator's consent page sends a user back with a code, or shows what is wrong."""

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.simulator import REDIRECT_URI, Simulator, running_simulator

pytestmark = pytest.mark.processes


def test_a_user_who_allows_is_sent_back_with_a_code_and_the_state(simulator: Simulator) -> None:
    target = simulator.consent(simulator.authorization_url(state="a b&c=<d>"), "tom")
    assert target.startswith(f"{REDIRECT_URI}?")
    result = parse_qs(urlsplit(target).query)
    assert result["state"] == ["a b&c=<d>"]
    answer = simulator.exchange_code(*result["code"])
    user = simulator.call("GET", "/user_account", answer.json()["access_token"]).json()
    assert user["username"] == "tom"


def test_a_user_who_denies_is_sent_back_with_an_error(simulator: Simulator) -> None:
    target = simulator.consent(simulator.authorization_url(state="s"), allow=False)
    assert parse_qs(urlsplit(target).query) == {"error": ["access_denied"], "state": ["s"]}


def test_a_redirect_url_keeps_its_own_parameters(simulator: Simulator) -> None:
    url = simulator.authorization_url(redirect_uri=f"{REDIRECT_URI}?own=1", state="s")
    target = parse_qs(urlsplit(simulator.consent(url)).query)
    assert target.keys() == {"own", "code", "state"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client_id": "1"}, "The app is unknown"),
        ({"redirect_uri": "https://elsewhere.example/callback"}, "redirect_uri is not registered"),
        ({"redirect_uri": "http://127.0.0.1.elsewhere.example/"}, "redirect_uri is not registered"),
        ({"redirect_uri": "javascript:alert(1)"}, "redirect_uri is not registered"),
        ({"response_type": "token"}, "response_type must be code"),
        ({"scope": ""}, "scope is missing"),
        ({"scope": "boards:read,pins:everything"}, "unknown values: pins:everything"),
        ({"scope": "<script>"}, "unknown values: &lt;script&gt;"),
    ],
)
def test_an_invalid_request_is_shown_and_never_redirected(
    simulator: Simulator, changes: dict[str, str], message: str
) -> None:
    url = simulator.authorization_url(**changes)
    page = simulator.http.get(url)
    assert page.status_code == 400
    assert message in page.text
    decision = simulator.http.post("/oauth/", data={**parameters(url), "decision": "allow"})
    assert decision.status_code == 400


def test_the_page_lists_users_and_scopes_and_escapes_the_state(simulator: Simulator) -> None:
    page = simulator.http.get(simulator.authorization_url(state='"><script>'))
    assert {"rosa", "tom"} <= set(page.text.replace("<", " ").split())
    assert "boards:write" in page.text
    assert "<script>" not in page.text
    assert page.headers["cache-control"] == "no-store"


def test_a_user_whose_name_is_typed_is_created_once_and_has_boards(simulator: Simulator) -> None:
    chosen = {"user": "rosa", "new_user": " Lena <b> ", "decision": "allow"}
    users = []
    for _ in range(2):
        form = {**parameters(simulator.authorization_url()), **chosen}
        target = simulator.http.post("/oauth/", data=form).headers["location"]
        token = simulator.exchange_code(*parse_qs(urlsplit(target).query)["code"]).json()
        users.append(simulator.call("GET", "/user_account", token["access_token"]).json())
    assert users[0] == users[1]
    assert (users[0]["username"], users[0]["board_count"]) == ("Lena <b>", 5)
    assert "Lena &lt;b&gt;" in simulator.http.get(simulator.authorization_url()).text


def test_a_new_name_that_is_too_long_or_denied_creates_no_user(simulator: Simulator) -> None:
    form = parameters(simulator.authorization_url())
    before = simulator.list_accounts()
    long = {"new_user": "x" * 101, "decision": "allow"}
    assert simulator.http.post("/oauth/", data={**form, **long}).status_code == 400
    denied = {"new_user": "max", "decision": "deny"}
    assert simulator.http.post("/oauth/", data={**form, **denied}).status_code == 303
    assert simulator.list_accounts() == before


def test_an_unknown_user_is_refused(simulator: Simulator) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        simulator.consent(simulator.authorization_url(), "nobody")


def test_only_registered_redirect_urls_are_used() -> None:
    registered = "https://pinflow.example/v1/pinterest/oauth/callback"
    with running_simulator("--redirect-url", registered) as simulator:
        url = simulator.authorization_url(redirect_uri=registered)
        assert simulator.consent(url).startswith(f"{registered}?code=")
        for other in (f"{registered}/", f"{registered}?a=1", REDIRECT_URI):
            url = simulator.authorization_url(redirect_uri=other)
            assert simulator.http.get(url).status_code == 400


def parameters(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
