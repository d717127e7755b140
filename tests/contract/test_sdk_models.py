"""Pinflow's response models have all fields of the SDK's models."""

import pytest
from pinbridge_sdk.models.bulk import BulkOperationItemResult, BulkOperationResponse
from pinbridge_sdk.models.pins import (
    BulkPinImportRowResult,
    ImportJobResponse,
    JobStatusResponse,
    PinBatchItemResult,
    PinBatchResponse,
    PinDeleteResponse,
    PinResponse,
    PinValidationCheck,
    PinValidationResponse,
)
from pinbridge_sdk.models.pinterest import BoardResponse, PinterestAccountResponse
from pinbridge_sdk.models.schedules import ScheduleResponse
from pinbridge_sdk.models.system import HealthResponse, ReadinessResponse, RootResponse
from pydantic import BaseModel

from services.access.accounts.schemas import AccountResponse
from services.access.boards import schemas as boards
from services.ingest.schemas import ImportAcceptedResponse
from services.publisher.pins.schemas import bulk, pins, removals, schedules
from services.publisher.pins.schemas import dry_run as validation
from services.status import schemas as status
from shared.http.row_results import RowResultResponse

PAIRS: list[tuple[type[BaseModel], type[BaseModel]]] = [
    (status.ImportJobResponse, ImportJobResponse),
    (ImportAcceptedResponse, ImportJobResponse),
    (RowResultResponse, BulkPinImportRowResult),
    (pins.PinResponse, PinResponse),
    (pins.JobStatusResponse, JobStatusResponse),
    (pins.PinBatchItemResult, PinBatchItemResult),
    (pins.PinBatchResponse, PinBatchResponse),
    (removals.PinDeleteResponse, PinDeleteResponse),
    (validation.PinValidationCheck, PinValidationCheck),
    (validation.PinValidationResponse, PinValidationResponse),
    (bulk.BulkItemResponse, BulkOperationItemResult),
    (bulk.BulkResponse, BulkOperationResponse),
    (schedules.ScheduleResponse, ScheduleResponse),
    (AccountResponse, PinterestAccountResponse),
    (boards.BoardResponse, BoardResponse),
    (status.RootResponse, RootResponse),
    (status.HealthResponse, HealthResponse),
    (status.ReadinessResponse, ReadinessResponse),
]


@pytest.mark.parametrize(
    ("ours", "theirs"), PAIRS, ids=lambda model: f"{model.__module__}.{model.__name__}"
)
def test_no_field_of_the_sdk_is_left_out(ours: type[BaseModel], theirs: type[BaseModel]) -> None:
    assert set(theirs.model_fields) <= set(ours.model_fields)


@pytest.mark.parametrize(
    ("ours", "theirs"), PAIRS, ids=lambda model: f"{model.__module__}.{model.__name__}"
)
def test_no_required_field_of_the_sdk_is_null(
    ours: type[BaseModel], theirs: type[BaseModel]
) -> None:
    def may_be_null(model: type[BaseModel], name: str) -> bool:
        annotation = model.model_fields[name].annotation
        return type(None) in getattr(annotation, "__args__", ())

    wrong = [
        name
        for name in theirs.model_fields
        if may_be_null(ours, name) and not may_be_null(theirs, name)
    ]
    assert wrong == []
