"""Responses about keys, accounts, boards and the rate meter have all fields of the SDK's models."""

import pytest
from pinbridge_sdk.models.api_keys import APIKeyCreateResponse, APIKeyResponse
from pinbridge_sdk.models.pinterest import (
    BoardAccessResponse,
    BoardResponse,
    OAuthCallbackResponse,
    OAuthStartResponse,
    PinterestAccountResponse,
)
from pinbridge_sdk.models.system import RateMeterAccount, RateMeterNode, RateMeterResponse
from pydantic import BaseModel

from services.access.accounts import schemas as accounts
from services.access.boards import schemas as boards
from services.access.keys import schemas as api_keys
from services.access.oauth import schemas as oauth
from services.ingest import schemas as ingest
from shared.http import rate_meter

PAIRS: list[tuple[type[BaseModel], type[BaseModel]]] = [
    (api_keys.ApiKeyResponse, APIKeyResponse),
    (api_keys.ApiKeyCreateResponse, APIKeyCreateResponse),
    (accounts.AccountResponse, PinterestAccountResponse),
    (boards.BoardResponse, BoardResponse),
    (boards.BoardAccessResponse, BoardAccessResponse),
    (oauth.OAuthStartResponse, OAuthStartResponse),
    (oauth.OAuthCallbackResponse, OAuthCallbackResponse),
    (ingest.RateMeterResponse, RateMeterResponse),
    (ingest.RateMeterAccount, RateMeterAccount),
    (rate_meter.RateMeterNode, RateMeterNode),
]


def may_be_null(model: type[BaseModel], name: str) -> bool:
    annotation = model.model_fields[name].annotation
    return type(None) in getattr(annotation, "__args__", ())


@pytest.mark.parametrize(
    ("ours", "theirs"), PAIRS, ids=lambda model: f"{model.__module__}.{model.__name__}"
)
def test_every_field_of_the_sdk_is_present_and_null_only_where_the_sdk_allows_it(
    ours: type[BaseModel], theirs: type[BaseModel]
) -> None:
    assert set(theirs.model_fields) <= set(ours.model_fields)
    assert [
        name
        for name in theirs.model_fields
        if may_be_null(ours, name) and not may_be_null(theirs, name)
    ] == []
