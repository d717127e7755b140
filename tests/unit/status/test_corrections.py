"""Corrections of a retry."""

import pytest

from services.status.commands.corrections import compute_digest, parse_corrections
from shared.contract.errors import ApiError
from shared.contract.strict_json import parse_json


def test_a_correction_that_is_nested_deeply_is_refused() -> None:
    nested = b"[" * 1015 + b"]" * 1015
    body = b'{"corrections":[{"row_number":1,"title":%b}]}' % nested
    corrections = parse_corrections(parse_json(body))
    with pytest.raises(ApiError) as refused:
        compute_digest(corrections)
    assert refused.value.message == "Invalid JSON: it is nested too deeply. Send fewer levels."
