"""Names what the access service's endpoints use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.access.boards.service import BoardService
from services.access.keys.service import KeyService
from shared.http.bodies import Bodies
from shared.http.dependencies import provided
from shared.http.json_reader import JsonReader


@dataclass(frozen=True, slots=True)
class AccessDependencies:
    """Holds what create_app made for the endpoints."""

    keys: KeyService
    boards: BoardService
    reader: JsonReader
    reports: Bodies


Access = Annotated[AccessDependencies, Depends(provided(AccessDependencies))]
