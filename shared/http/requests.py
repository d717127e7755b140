"""Parses ids and JSON objects that FastAPI does not parse, and describes them for OpenAPI."""

from typing import Any, TypeVar
from uuid import UUID

from msgspec.structs import asdict
from pydantic import BaseModel, ValidationError

from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.contract.events import Fault
from shared.contract.pins import describe_first_fault, read_faults

M = TypeVar("M", bound=BaseModel)


def uuid_or_404(text: str, resource: str) -> UUID:
    """Parses an id. Raises 404 for a text that is not a UUID, as for an unknown id."""
    try:
        return UUID(text)
    except ValueError:
        raise not_found(resource) from None


def describe_json_body(body: type[BaseModel] | dict[str, Any]) -> dict[str, Any]:
    """Returns the OpenAPI description of a JSON body that the endpoint itself reads."""
    return describe_body("application/json", body)


def describe_body(
    content_type: str, body: type[BaseModel] | dict[str, Any], **media_type: Any
) -> dict[str, Any]:
    """Returns the OpenAPI description of a body: a model, or a JSON Schema like a model's.

    deploy/generate/openapi.py moves the schema to the components, under its title. `media_type` are
    further fields of the Media Type Object.
    """
    schema = body if isinstance(body, dict) else build_schema(body)
    content = {content_type: {"schema": schema, **media_type}}
    request_body = {"required": True, "description": schema["description"], "content": content}
    return {"requestBody": request_body}


def build_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Builds the JSON Schema of a model. It refers to other models as components."""
    return model.model_json_schema(ref_template="#/components/schemas/{model}")


def require_object(document: object) -> dict[str, Any]:
    """Returns the document if it is an object. Raises ApiError (422)."""
    if not isinstance(document, dict):
        raise ApiError(ErrorCode.INVALID_PAYLOAD, "The body is not a JSON object. Send one object.")
    return document


def parse_model(model: type[M], document: object) -> M:
    """Validates an object. Raises ApiError (422) with its faults, at most 20."""
    try:
        return model.model_validate(require_object(document))
    except ValidationError as error:
        raise validation_error(read_faults(error)) from None


def validation_error(faults: list[Fault]) -> ApiError:
    """Builds the error for invalid fields. Its message is the first fault's."""
    code, message = describe_first_fault(faults)
    return ApiError(code, message, errors=[asdict(fault) for fault in faults])
