"""Defines the dependencies of the access service's endpoints."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.access.boards.service import BoardService
from services.access.keys.service import KeyService
from shared.http.bodies import BodyReader
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader


@dataclass(frozen=True, slots=True)
class AccessDependencies:
    """The objects that create_app builds for the endpoints."""

    keys: KeyService
    boards: BoardService
    reader: JsonReader
    reports: BodyReader


Access = Annotated[AccessDependencies, Depends(typed_dependencies(AccessDependencies))]
