"""Refuses query parameters that an endpoint does not have."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.field_names import suggest_field
from shared.contract.pins import make_printable
from shared.http.bodies import discard
from shared.http.errors import MAX_FAULTS

MAX_NAME_LENGTH = 64
DISCARD_SECONDS = 20.0
"""Maximum time for which the body of a refused request is read and discarded.

It is the time that a body may take by default (PINFLOW_BODY_SECONDS).
"""


async def require_known_parameters(request: Request) -> None:
    """Raises ApiError (422) for a query parameter that the endpoint lacks or takes only once.

    A filter or an option with a misspelled name would be ignored, and the answer would be wrong
    without notice. This concerns lists and requests that write. A GET of one object ignores such
    parameters: links to it may have tracking parameters.
    """
    route = request.scope["route"]
    if request.method == "GET" and get_origin(route.response_model) is not list:
        return
    await require_only_known_parameters(request)


async def require_only_known_parameters(request: Request) -> None:
    """Does the same for every request, for a GET that writes."""
    if not request.scope["query_string"]:
        return
    parameters = dict(_find_parameters(request.scope["route"].dependant))
    if faults := [*_find_faults(request, parameters)]:
        # A client that is still sending would not get the answer
        await discard(request, DISCARD_SECONDS)
        raise _build_error(faults[:MAX_FAULTS], sorted(parameters))


def list_parameters(request: Request) -> list[str]:
    """Returns the names of the endpoint's query parameters."""
    route = request.scope.get("route")
    return sorted(dict(_find_parameters(route.dependant))) if route else []


def _find_parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yields the endpoint's query parameters, and whether each may be sent several times."""
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, info in annotation.model_fields.items():
                yield info.alias or name, _is_list(info.annotation)
        else:
            yield field.alias, _is_list(annotation)
    for dependency in dependant.dependencies:
        yield from _find_parameters(dependency)


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(map(_is_list, get_args(annotation)))


def _find_faults(request: Request, parameters: dict[str, bool]) -> Iterator[dict[str, str]]:
    for name in request.query_params:
        field = make_printable(name, MAX_NAME_LENGTH)
        if name not in parameters:
            suggestion = suggest_field(name, parameters)
            advice = f" (did you mean {suggestion}?)" if suggestion else ""
            message = f"is not a query parameter of this request{advice}"
            yield {"field": field, "code": ErrorCode.UNKNOWN_PARAMETER, "message": message}
        elif not parameters[name] and (count := len(request.query_params.getlist(name))) > 1:
            message = f"must be sent once; it is there {count} times"
            yield {"field": field, "code": "repeated_parameter", "message": message}


def _build_error(faults: list[dict[str, str]], known: list[str]) -> ApiError:
    is_unknown = any(fault["code"] == ErrorCode.UNKNOWN_PARAMETER for fault in faults)
    descriptions = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
    advice = f"Known ones: {', '.join(known)}." if known else "It has none."
    return ApiError(
        ErrorCode.UNKNOWN_PARAMETER if is_unknown else ErrorCode.INVALID_PARAMETER,
        f"{descriptions}. {advice}" if is_unknown else f"{descriptions}.",
        errors=faults,
        parameters=known,
    )
