"""A request's body that is one JSON object: checked by its model, and told of in OpenAPI."""

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from shared.bodies import Bodies, parse_json, require_content_type
from shared.errors import ErrorCode, RequestRefused
from shared.pins import faults_of, first_fault

M = TypeVar("M", bound=BaseModel)


async def read_document(request: Request, bodies: Bodies, model: type[M]) -> M:
    """Not FastAPI's own way, which reads a body of any size. Raises RequestRefused: 422 with every fault in `errors`; 413, 415, …"""
    require_content_type(request, "application/json")
    async with bodies.reading(request) as body:
        document = parse_json(body)
    if not isinstance(document, dict):
        raise RequestRefused(ErrorCode.INVALID_PAYLOAD, "Send one JSON object.")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = faults_of(error)
        code, message = first_fault(faults)
        raise RequestRefused(code, message, errors=[fault.model_dump() for fault in faults]) from None


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """For `openapi_extra`. The model must need no `$defs`: a reference would lead nowhere in the merged document."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}
