"""Defines the dependencies of the status service's endpoints."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.status.config import StatusSettings
from services.status.lists import ImportLists
from services.status.service import JobQueries
from shared.http.dependencies import typed_dependencies


@dataclass(frozen=True, slots=True)
class StatusDependencies:
    """The objects that create_app builds for the endpoints."""

    settings: StatusSettings
    jobs: JobQueries
    lists: ImportLists


Status = Annotated[StatusDependencies, Depends(typed_dependencies(StatusDependencies))]
