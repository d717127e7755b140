"""Parses ids and JSON objects that FastAPI does not parse, and describes them for OpenAPI."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar
from uuid import UUID

from msgspec.structs import asdict, replace
from pydantic import BaseModel, ValidationError

from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.contract.events import MAX_ROW_FAULTS, Fault
from shared.contract.field_names import (
    MAX_UNKNOWN_NAMES,
    describe_misspelling,
    find_alias,
    suggest_field,
)
from shared.contract.import_limits import MEBIBYTE
from shared.contract.pins import describe_first_fault, make_printable, read_faults
from shared.contract.strict_json import build_too_deep

M = TypeVar("M", bound=BaseModel)


def uuid_or_404(text: str, resource: str) -> UUID:
    """Parses an id. Raises 404 for a text that is not a UUID, as for an unknown id."""
    try:
        return UUID(text)
    except ValueError:
        raise not_found(resource) from None


def describe_json_body(body: type[BaseModel] | dict[str, Any], limit_bytes: int) -> dict[str, Any]:
    """Returns the OpenAPI description of a JSON body that the endpoint itself reads."""
    return describe_body("application/json", body, limit_bytes)


def describe_body(
    content_type: str, body: type[BaseModel] | dict[str, Any], limit_bytes: int, **media_type: Any
) -> dict[str, Any]:
    """Returns the OpenAPI description of a body: a model, or a JSON Schema like a model's.

    deploy/generate/openapi.py moves the schema to the components, under its title. `limit_bytes` is
    the default of the setting. `media_type` are further fields of the Media Type Object.
    """
    schema = body if isinstance(body, dict) else build_schema(body)
    mebibytes = limit_bytes // MEBIBYTE
    limit = f"{mebibytes} MiB" if mebibytes else f"{limit_bytes // 1024} KiB"
    request_body = {
        "required": True,
        "description": f"At most {limit}, unless the operator sets another limit.",
        "content": {content_type: {"schema": schema, **media_type}},
    }
    return {"requestBody": request_body}


def build_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Builds the JSON Schema of a model. It refers to other models as components."""
    return model.model_json_schema(ref_template="#/components/schemas/{model}")


def require_object(document: object) -> dict[str, Any]:
    """Returns the document if it is an object. Raises ApiError (422)."""
    if not isinstance(document, dict):
        raise ApiError(ErrorCode.INVALID_PAYLOAD, "The body is not a JSON object. Send one object.")
    return document


def parse_model(model: type[M], document: object, *, secrets: Collection[str] = ()) -> M:
    """Validates an object. Raises ApiError (422) with its faults, at most 20.

    Faults of the fields in `secrets` have no value.
    """
    fields = require_object(document)
    takes_any = model.model_config.get("extra") == "allow"
    misspelled = [] if takes_any else find_misspelled_fields(fields, model.model_fields.keys())
    faults: list[Fault] = []
    try:
        parsed = model.model_validate(fields)
    except RecursionError:  # the error of an enumeration shows the whole value
        raise build_too_deep() from None
    except ValidationError as error:
        names = {fault.field for fault in misspelled}
        faults = [fault for fault in read_faults(error) if fault.field not in names]
    else:
        if not misspelled:
            return parsed
    raise validation_error(
        [
            replace(fault, value=None) if fault.field in secrets else fault
            for fault in (*misspelled, *faults)
        ][:MAX_ROW_FAULTS]
    )


def find_misspelled_fields(fields: Mapping[str, Any], known: Collection[str]) -> list[Fault]:
    """Finds unknown names that are nearly a known one, or an alias of one. At most 20.

    The value of such a field would be lost without notice. Other unknown names are ignored, as
    PinBridge does. The faults have no value, because it may be a secret.
    """
    unknown = [name for name in fields if name not in known]
    if len(unknown) > MAX_UNKNOWN_NAMES:
        message = (
            f"The body has {len(unknown)} unknown fields; the limit is {MAX_UNKNOWN_NAMES}. Remove "
            "them."
        )
        return [Fault(code=ErrorCode.UNKNOWN_FIELD, message=message)]
    suggestions = ((name, _suggest(name, known)) for name in unknown)
    return [
        Fault(
            code=ErrorCode.UNKNOWN_FIELD,
            field=make_printable(name),
            message=describe_misspelling(field),
        )
        for name, field in suggestions
        if field is not None
    ][:MAX_ROW_FAULTS]


def _suggest(name: str, known: Collection[str]) -> str | None:
    alias = find_alias(name)
    return alias if alias in known else suggest_field(name, known)


def validation_error(faults: list[Fault]) -> ApiError:
    """Builds the error for invalid fields. Its message is the first fault's."""
    code, message = describe_first_fault(faults)
    return ApiError(code, message, errors=[asdict(fault) for fault in faults])
