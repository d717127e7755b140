"""PinBridge's clients connect an account to the simulator, publish through it, and revoke it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pinbridge_sdk.errors import APIError
from pinbridge_sdk.models.common import PinStatus
from pinbridge_sdk.models.pins import PinCreate, PinUpdate
from pinbridge_sdk.models.pinterest import BoardCreateRequest, OAuthCallbackResponse

from deploy.administration import NewWorkspace
from tests.support.deployment import Deployment
from tests.support.simulator import Simulator
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def pinflow(connected: Deployment) -> Deployment:
    """The deployment in the mode `simulated`."""
    return connected


async def connect_account(sdk: Any, simulator: Simulator, user: str) -> str:
    """Goes through the consent of a user, and returns the account's id."""
    started = await sdk.pinterest.start_oauth()
    target = httpx.URL(simulator.consent(str(started.authorization_url), user))
    answer = await sdk.pinterest.oauth_callback(
        code=target.params["code"], state=target.params["state"]
    )
    assert isinstance(answer, OAuthCallbackResponse)
    assert answer.status == "connected"
    return str(answer.account_id)


async def read_boards(sdk: Any, account_id: Any) -> list[Any]:
    """Reads the boards of an account. After 8 s, it is connected without them: they come later."""
    return list(await eventually(lambda: sdk.pinterest.list_boards(account_id), seconds=40))


async def open_page(url: str) -> httpx.Response:
    """Opens a page as a browser does."""
    async with httpx.AsyncClient(timeout=40, trust_env=False) as browser:
        return await browser.get(url, headers={"Accept": "text/html"})


async def test_an_account_is_connected_with_its_users_consent(
    sdk: Any, simulator: Simulator, workspace: NewWorkspace, pinflow: Deployment
) -> None:
    started = await sdk.pinterest.start_oauth()
    redirected = httpx.URL(simulator.consent(str(started.authorization_url), "rosa"))
    assert str(redirected.copy_with(query=None)) == (
        f"{pinflow.base_url}/v1/pinterest/oauth/callback"
    )
    answer = await sdk.pinterest.oauth_callback(
        code=redirected.params["code"], state=redirected.params["state"]
    )
    assert answer.status == "connected"
    accounts = {str(account.id): account for account in await sdk.pinterest.list_accounts()}
    assert len(accounts) == len(workspace.accounts) + 1
    account = accounts[answer.account_id]
    rosa = next(user for user in simulator.list_accounts() if user["username"] == "rosa")
    assert (account.username, account.pinterest_user_id) == ("rosa", rosa["id"])
    assert (account.health_status, account.reconnect_required) == ("healthy", False)
    assert account.missing_scopes == []
    assert set(account.scopes.split(",")) == {
        "boards:read",
        "boards:write",
        "pins:read",
        "pins:write",
        "user_accounts:read",
    }
    assert account.token_expires_at is not None
    boards = await read_boards(sdk, answer.account_id)
    assert {board.id for board in boards} == set(rosa["boards"])


async def test_a_connected_account_has_the_boards_of_pinterest(
    sdk: Any, simulator: Simulator
) -> None:
    account_id = await connect_account(sdk, simulator, "tom")
    created = await sdk.pinterest.create_board(
        BoardCreateRequest(account_id=account_id, name="Autumn lamps", privacy="PUBLIC")
    )
    access = await sdk.pinterest.check_board_access(created.id, account_id=account_id, fresh=True)
    assert (access.publishable, access.code, access.source) == (True, None, "pinterest")
    assert await sdk.pinterest.delete_board(created.id, account_id=account_id) is None
    gone = await sdk.pinterest.check_board_access(created.id, account_id=account_id, fresh=True)
    assert (gone.publishable, gone.code, gone.source) == (False, "board_not_found", "pinterest")


async def test_a_revoked_account_is_disconnected_and_connects_again(
    sdk: Any, simulator: Simulator
) -> None:
    account_id = await connect_account(sdk, simulator, "rosa")
    assert await sdk.pinterest.revoke_account(account_id) is None
    (revoked,) = [
        account for account in await sdk.pinterest.list_accounts() if str(account.id) == account_id
    ]
    assert revoked.revoked_at is not None
    assert (revoked.health_status, revoked.reconnect_required) == ("revoked", True)
    assert revoked.token_expires_at is None
    assert await connect_account(sdk, simulator, "rosa") == account_id
    (restored,) = [
        account for account in await sdk.pinterest.list_accounts() if str(account.id) == account_id
    ]
    assert (restored.revoked_at, restored.health_status) == (None, "healthy")


async def publish(sdk: Any, simulator: Simulator, user: str, **fields: Any) -> Any:
    """Publishes as the client's README does: a dry run, then the pin."""
    account_id = await connect_account(sdk, simulator, user)
    (board, *_) = await read_boards(sdk, account_id)
    draft = PinCreate(
        account_id=account_id,
        board_id=board.id,
        title="Autumn recipes",
        image_url="https://example.com/soup.jpg",
        idempotency_key=f"soup-{uuid4()}",
        **fields,
    )
    check = await sdk.pins.validate(draft)
    assert check.valid, check.checks
    return await sdk.pins.create(draft)


async def wait_for_status(sdk: Any, pin_id: Any, status: PinStatus) -> Any:
    async def find() -> Any:
        pin = await sdk.pins.get(pin_id)
        return pin if pin.status is status else None

    return await eventually(find, seconds=60, every=0.1)


def list_titles(simulator: Simulator, pinterest_pin_id: str) -> list[str]:
    made = simulator.control("GET", "pins")
    return [pin["title"] for pin in made if pin["id"] == pinterest_pin_id]


async def test_a_pin_is_published_with_its_id_and_deleted_from_pinterest(
    sdk: Any, simulator: Simulator
) -> None:
    pin = await publish(sdk, simulator, "rosa")
    published = await wait_for_status(sdk, pin.id, PinStatus.PUBLISHED)
    assert published.published_at is not None
    assert list_titles(simulator, published.pinterest_pin_id) == ["Autumn recipes"]
    job = await sdk.jobs.get(pin.id)
    assert (job.status, job.pinterest_pin_id) == (PinStatus.PUBLISHED, published.pinterest_pin_id)
    with pytest.raises(APIError) as edited:
        await sdk.pins.update(pin.id, PinUpdate(title="Autumn soup recipes"))
    assert edited.value.code == "pin_already_published"

    async def remove() -> Any:
        deleted = await sdk.pins.delete(pin.id, delete_from_pinterest=True)
        return deleted if deleted.removed_from_pinterest else None

    # A request waits for 5 s, and can be repeated
    deleted = await eventually(remove, seconds=40)
    assert deleted.pinterest_pin_id == published.pinterest_pin_id


async def test_a_deferred_pin_is_edited_before_it_is_published(
    sdk: Any, simulator: Simulator
) -> None:
    with rate_limited(simulator):
        pin = await publish(sdk, simulator, "tom")
        deferred = await wait_for_status(sdk, pin.id, PinStatus.DEFERRED)
        assert deferred.error_code == "rate_limited"
        await edit_between_attempts(sdk, pin.id, PinUpdate(title="Autumn soup recipes"))
    published = await wait_for_status(sdk, pin.id, PinStatus.PUBLISHED)
    assert list_titles(simulator, published.pinterest_pin_id) == ["Autumn soup recipes"]


@contextmanager
def rate_limited(simulator: Simulator) -> Iterator[None]:
    """Refuses all pins while the body runs. Each refusal defers a pin for 5 s.

    A single refusal might be over before a busy machine has edited the pin.
    """
    simulator.set_faults("rate_limit", seconds=5)
    try:
        yield
    finally:
        simulator.control("POST", "faults", {"kind": "none"})


async def edit_between_attempts(sdk: Any, pin_id: Any, changes: PinUpdate) -> None:
    """Edits a pin that is deferred. While Pinflow tries to send it, it can't be edited."""

    async def is_edited() -> bool:
        try:
            await sdk.pins.update(pin_id, changes)
        except APIError as error:
            if error.code != "pin_publishing":
                raise
            return False
        return True

    await eventually(is_edited, seconds=40)


async def test_a_failed_pin_is_published_by_a_retry(sdk: Any, simulator: Simulator) -> None:
    simulator.set_faults("image_small", count=1)
    pin = await publish(sdk, simulator, "rosa")
    failed = await wait_for_status(sdk, pin.id, PinStatus.FAILED)
    assert (failed.error_code, failed.pinterest_pin_id) == ("media_rejected", None)
    await sdk.pins.retry(pin.id)
    published = await wait_for_status(sdk, pin.id, PinStatus.PUBLISHED)
    assert published.error_code is None
    assert list_titles(simulator, published.pinterest_pin_id) == ["Autumn recipes"]


async def test_a_user_who_denies_the_access_connects_nothing(
    sdk: Any, simulator: Simulator, workspace: NewWorkspace, pinflow: Deployment
) -> None:
    started = await sdk.pinterest.start_oauth()
    target = simulator.consent(str(started.authorization_url), "rosa", allow=False)
    browser = await open_page(target)
    assert browser.status_code == 400
    assert browser.headers["content-type"] == "text/html; charset=utf-8"
    assert "Account not connected" in browser.text
    with pytest.raises(APIError) as denied:
        await sdk.pinterest.oauth_callback(code="x", state=httpx.URL(target).params["state"])
    assert (denied.value.status_code, denied.value.code) == (400, "oauth_denied")
    assert len(await sdk.pinterest.list_accounts()) == len(workspace.accounts)


async def test_no_log_has_a_token_a_code_or_a_state(
    sdk: Any, simulator: Simulator, pinflow: Deployment
) -> None:
    started = await sdk.pinterest.start_oauth()
    target = httpx.URL(simulator.consent(str(started.authorization_url), "tom"))
    secrets = {target.params["code"], target.params["state"]}
    await sdk.pinterest.oauth_callback(**dict(target.params))
    await sdk.pinterest.oauth_callback(**dict(target.params))
    await open_page(f"{target}&code=twice")
    secrets |= set(simulator.control("GET", "tokens"))
    assert len(secrets) > 4
    logs = {
        name: program.log.read_text(errors="replace") for name, program in pinflow.programs.items()
    }
    assert "account_connected" in logs["access"]
    leaks = {name for name, log in logs.items() for secret in secrets if secret in log}
    assert leaks == set()
