"""Finds out why Pinterest refuses a pin without saying so: it looks the board up once."""

from services.publisher.delivery.model import AccessToken
from services.publisher.model import Failure
from shared.contract.errors import ErrorCode
from shared.pinterest.client import PinterestClient
from shared.pinterest.failures import Cause, PinterestFailure, Refused

OPERATION = "boards/get"


class BoardLookup:
    """Explains a refusal that may concern the board (403 with code 29, 401 with code 7).

    Costs one read: the caller takes it from the budget before.
    """

    def __init__(self, client: PinterestClient) -> None:
        self._client = client

    async def explain(self, token: AccessToken, board_id: str, refusal: Refused) -> Failure:
        """Returns the failure of the refused pin. If the lookup fails too, Pinterest's message."""
        try:
            await self._client.call(OPERATION, "GET", f"/boards/{board_id}", token=token.value)
        except Refused as failure:
            if failure.cause is Cause.NOT_FOUND:
                return describe_missing_board(board_id)
            if failure.cause is Cause.PERMISSION:
                return Failure(
                    ErrorCode.BOARD_ACCESS_DENIED,
                    f"board_id: Pinterest does not let this account use board {board_id}. Choose a "
                    "board of the account, or connect the board's owner.",
                )
        except PinterestFailure:
            pass  # the refusal of the pin is certain, whatever the board is
        return Failure(
            ErrorCode.BOARD_ACCESS_DENIED,
            f"board_id: Pinterest refuses pins on board {board_id} and says: {refusal.message} "
            "Check that the account may add pins to the board, or choose another.",
        )


def describe_missing_board(board_id: str) -> Failure:
    """Builds the failure of a pin whose board is not on Pinterest."""
    return Failure(
        ErrorCode.BOARD_NOT_FOUND,
        f"board_id: Pinterest has no board {board_id} any more. Retry the pin with another "
        "board_id, or publish it with a board that exists.",
    )
