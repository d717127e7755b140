"""A refusal without a reason is explained by looking the board up."""

from services.publisher.delivery.creating.board_lookup import BoardLookup
from services.publisher.model import Failure
from shared.pinterest.failures import Refused
from tests.integration.publisher.delivery.deliveries import Deliveries


async def refuse_and_explain(deliveries: Deliveries, board_id: str) -> Failure:
    deliveries.simulator.set_faults("board_refused", count=1, account_id=deliveries.user["id"])
    attempt = await deliveries.begin(await deliveries.add_pin(board_id=board_id))
    refusal = await deliveries.send(attempt)
    assert isinstance(refusal, Refused)
    token = await deliveries.tokens.get(deliveries.account_id)
    return await BoardLookup(deliveries.client).explain(token, board_id, refusal)


async def test_a_board_that_is_gone_is_not_found(deliveries: Deliveries) -> None:
    board_id = deliveries.board_id
    deliveries.simulator.call("DELETE", f"/boards/{board_id}", deliveries.tokens.value)
    failure = await refuse_and_explain(deliveries, board_id)
    assert failure.error_code == "board_not_found"
    assert board_id in failure.error_message


async def test_a_board_that_can_be_read_is_denied_with_the_message(deliveries: Deliveries) -> None:
    failure = await refuse_and_explain(deliveries, deliveries.board_id)
    assert failure.error_code == "board_access_denied"
    assert "You are not permitted to access that resource." in failure.error_message


async def test_the_board_of_another_user_is_denied(deliveries: Deliveries) -> None:
    other = deliveries.simulator.create_account(boards=1)["boards"][0]
    failure = await refuse_and_explain(deliveries, other)
    assert failure.error_code in {"board_access_denied", "board_not_found"}


async def test_a_lookup_that_fails_keeps_the_message(deliveries: Deliveries) -> None:
    deliveries.simulator.set_faults(
        "error_before", operation="boards/get", account_id=deliveries.user["id"]
    )
    failure = await refuse_and_explain(deliveries, deliveries.board_id)
    assert failure.error_code == "board_access_denied"
