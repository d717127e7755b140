"""A small CSV file that tests change, and how it is refused."""

import pytest

from shared.contract.errors import ApiError
from shared.spreadsheets.table import read_csv

HEADER = "account_id,board_id,title,idempotency_key,image_url"
ROW = "a,b,Lampe,k,u"
VALUES = {
    "account_id": "a",
    "board_id": "b",
    "title": "Lampe",
    "idempotency_key": "k",
    "image_url": "u",
}


def build_file(*titles: str) -> str:
    return "\n".join([HEADER, *(ROW.replace("Lampe", title) for title in titles), ""])


def find_refusal(data: bytes, **options: object) -> ApiError:
    with pytest.raises(ApiError) as refused:
        read_csv(data, **options)  # type: ignore[arg-type]
    return refused.value
