"""The service and the reader that the internal route of grants uses."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.publisher.grants.service import GrantService
from shared.http.bodies import SMALL_BODY_BYTES, BodyReader
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader
from shared.http.write_limit import WriteLimit

MAX_REQUESTS = 100
"""Maximum concurrent requests. The access service does not wait for the answers of more."""
MAX_BODY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class GrantDependencies:
    """The objects that create_app builds for the internal route of grants."""

    service: GrantService
    reader: JsonReader


def build_reader(body_seconds: float) -> JsonReader:
    """Builds the reader of requests for grants."""
    bodies = BodyReader(
        limit_bytes=MAX_BODY_BYTES, timeout_seconds=body_seconds, total_bytes=2 * SMALL_BODY_BYTES
    )
    return JsonReader(bodies, WriteLimit(MAX_REQUESTS, activity="grants are being given"))


STATE_ATTRIBUTE = "grant_dependencies"
"""The attribute of the application's state that has the GrantDependencies."""
Grants = Annotated[
    GrantDependencies, Depends(typed_dependencies(GrantDependencies, STATE_ATTRIBUTE))
]
