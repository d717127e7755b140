"""Structs that are written or read in a model's place: what they are called and in which order is
the model's.
"""

import pytest
from msgspec import Struct
from pydantic import BaseModel

from services.ingest.parsing.fast_path import _PlainRow
from services.publisher.rows.events import _Published, _Result, _Scheduled
from services.status import results
from services.status.schemas import RowResultResponse
from shared.contract.events import Fault, PinContent, PinPublished, PinScheduled, RowResult
from shared.contract.pins import PinSubmission


@pytest.mark.parametrize(
    ("struct", "model"),
    [
        (_Published, PinPublished),
        (_Scheduled, PinScheduled),
        (_Result, RowResult),
        (_PlainRow, PinSubmission),
        (_PlainRow, PinContent),
        (results._Result, RowResult),
        (results._Result, RowResultResponse),
        (results._Fault, Fault),
    ],
)
def test_a_struct_has_the_fields_of_its_model(struct: type[Struct], model: type[BaseModel]) -> None:
    assert set(struct.__struct_fields__) == set(model.model_fields)
