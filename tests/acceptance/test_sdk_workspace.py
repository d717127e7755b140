"""PinBridge's clients manage accounts, boards, keys and webhooks, and read limits and health."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pinbridge_sdk.errors import AuthenticationError, NotFoundError, RateLimitError, ValidationError
from pinbridge_sdk.models.api_keys import APIKeyCreate, APIKeyScope, APIKeyUpdate
from pinbridge_sdk.models.pinterest import BoardCreateRequest, BoardUpdateRequest
from pinbridge_sdk.models.webhooks import WebhookCreate, WebhookUpdate

from deploy.administration import NewWorkspace
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment
from tests.support.waiting import eventually

SECRET = "sixteen-characters-at-least"  # pragma: allowlist secret
ATTEMPTS = 61
"""One more wrong key than an address may try.

A slow machine needs some more, because one attempt is forgotten each second.
"""


async def test_accounts_are_listed_and_revoked(sdk: Any, workspace: NewWorkspace) -> None:
    accounts = await sdk.pinterest.list_accounts()
    assert {account.id for account in accounts} == {account.id for account in workspace.accounts}
    assert {account.reconnect_required for account in accounts} == {False}
    revoked = workspace.accounts[1].id
    assert await sdk.pinterest.revoke_account(revoked) is None
    states = {
        account.id: account.revoked_at is not None
        for account in await sdk.pinterest.list_accounts()
    }
    assert states.get(revoked, True)
    assert states[workspace.accounts[0].id] is False


async def test_a_board_is_created_changed_checked_and_deleted(
    sdk: Any, workspace: NewWorkspace
) -> None:
    account = workspace.accounts[0]
    request = BoardCreateRequest(
        account_id=account.id, name="Autumn", description="Lamps", privacy="PUBLIC"
    )
    created = await sdk.pinterest.create_board(request)
    assert (created.name, created.description, created.privacy) == ("Autumn", "Lamps", "PUBLIC")
    assert {board.id for board in await sdk.pinterest.list_boards(account.id)} == {
        *account.boards,
        created.id,
    }
    renamed = await sdk.pinterest.update_board(
        created.id, BoardUpdateRequest(account_id=account.id, name="Winter")
    )
    assert (renamed.id, renamed.name, renamed.description) == (created.id, "Winter", "Lamps")
    access = await sdk.pinterest.check_board_access(created.id, account_id=account.id, fresh=True)
    assert (access.publishable, access.status, access.code, access.board_id) == (
        True,
        "ok",
        None,
        created.id,
    )
    pin = await sdk.pins.create(
        rows_for(workspace, 1, prefix="board", account_id=str(account.id), board_id=created.id)[0]
    )
    assert await sdk.pinterest.delete_board(created.id, account_id=account.id) is None
    gone = await sdk.pinterest.check_board_access(created.id, account_id=account.id, fresh=True)
    assert (gone.publishable, gone.code) == (False, "board_not_found")
    assert (await sdk.pins.get(pin.id)).board_id == created.id


async def test_a_key_is_created_limited_changed_and_revoked(
    sdk: Any, connect: Callable[..., Awaitable[Any]], workspace: NewWorkspace
) -> None:
    first, second = workspace.accounts
    created = await sdk.api_keys.create(
        APIKeyCreate(name="reader", scopes=[APIKeyScope.READ], pinterest_account_ids=[first.id])
    )
    assert (created.scopes, created.pinterest_account_ids) == ([APIKeyScope.READ], [first.id])
    listed = {key.id: key for key in await sdk.api_keys.list()}
    assert (listed[created.id].name, listed[created.id].revoked_at) == ("reader", None)

    reader = await connect(created.api_key)
    assert [account.id for account in await reader.pinterest.list_accounts()] == [first.id]
    with pytest.raises(AuthenticationError) as scope:
        await reader.pins.create(rows_for(workspace, 1, prefix="x")[0])
    assert (scope.value.status_code, scope.value.code) == (403, "insufficient_scope")

    changed = await sdk.api_keys.update(
        created.id,
        APIKeyUpdate(
            name="writer",
            scopes=[APIKeyScope.READ, APIKeyScope.WRITE],
            pinterest_account_ids=[second.id],
        ),
    )
    assert (changed.name, set(changed.scopes), changed.pinterest_account_ids) == (
        "writer",
        {APIKeyScope.READ, APIKeyScope.WRITE},
        [second.id],
    )
    elsewhere = rows_for(
        workspace, 1, prefix="x", account_id=str(first.id), board_id=first.boards[0]
    )[0]

    async def refused() -> bool:
        try:
            await reader.pins.create(elsewhere)
        except AuthenticationError as error:
            return error.code == "account_not_permitted"
        return False

    await eventually(refused)  # after the cached key has expired

    assert await sdk.api_keys.revoke(created.id) is None

    async def is_unauthorized() -> bool:
        try:
            await reader.pinterest.list_accounts()
        except AuthenticationError as error:
            return error.status_code == 401
        return False

    await eventually(is_unauthorized)
    assert {key.id: key.revoked_at is not None for key in await sdk.api_keys.list()}[created.id]


async def test_a_webhook_is_created_changed_and_deleted(sdk: Any) -> None:
    created = await sdk.webhooks.create(
        WebhookCreate(url="https://hooks.shop.example/pinflow", secret=SECRET)
    )
    assert (created.events, created.is_enabled) == (["pin.published", "pin.failed"], True)
    assert [webhook.id for webhook in await sdk.webhooks.list()] == [created.id]
    fetched = await sdk.webhooks.get(created.id)
    assert fetched == created
    changed = await sdk.webhooks.update(
        created.id, WebhookUpdate(events=["pin.failed"], is_enabled=False)
    )
    assert (changed.url, changed.events, changed.is_enabled) == (created.url, ["pin.failed"], False)
    assert await sdk.webhooks.delete(created.id) is None
    assert await sdk.webhooks.list() == []
    with pytest.raises(NotFoundError):
        await sdk.webhooks.get(created.id)
    with pytest.raises(ValidationError) as unknown:
        await sdk.webhooks.create(
            {"url": "https://hooks.shop.example/", "secret": SECRET, "events": ["pin.lost"]}
        )
    assert (unknown.value.code, unknown.value.message.partition(":")[0]) == (
        "validation_error",
        "events.0",
    )


async def test_the_rate_meter_returns_the_available_tokens(
    sdk: Any, workspace: NewWorkspace
) -> None:
    account = workspace.accounts[0]
    meter = await sdk.rate_meter.get(account.id)
    assert meter.account.account_id == str(account.id)
    for node in (meter.account, meter.global_):
        assert 0 < node.tokens_available <= node.capacity
        assert node.refill_rate >= 0


async def test_the_system_endpoints_return_name_and_health(sdk: Any) -> None:
    assert (await sdk.system.root()).service == "pinflow"
    assert (await sdk.system.health()).status == "ok"
    readiness = await sdk.system.readiness()
    assert (readiness.status, readiness.database) == ("ok", "ok")


async def test_without_a_valid_key_the_client_raises_an_error(
    connect: Callable[..., Awaitable[Any]],
) -> None:
    stranger = await connect("pf_wrong")
    for attempt in (
        stranger.pins.list,
        stranger.schedules.list,
        stranger.webhooks.list,
        stranger.api_keys.list,
    ):
        with pytest.raises(AuthenticationError) as refused:
            await attempt()
        assert (refused.value.status_code, refused.value.code) == (401, "unauthorized")


async def test_too_many_wrong_keys_are_a_rate_limit(
    connect: Callable[..., Awaitable[Any]], pinflow: Deployment
) -> None:
    """Sends wrong keys directly to a service, from an address that no other test uses.

    Otherwise they would use up the attempts of the other tests' address.
    """
    elsewhere = {
        "base_url": pinflow.service_url("publisher"),
        "headers": {"X-Forwarded-For": "203.0.113.9"},
    }
    guessing = await connect("pf_guess", **elsewhere)
    refusals = set()
    for _ in range(4 * ATTEMPTS):
        with pytest.raises((AuthenticationError, RateLimitError)) as refused:
            await guessing.pins.list()
        refusals.add((type(refused.value), refused.value.code))
        if isinstance(refused.value, RateLimitError):
            break
    assert (RateLimitError, "too_many_attempts") in refusals
