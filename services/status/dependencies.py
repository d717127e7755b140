"""Names what status' endpoints use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.status.config import StatusSettings
from services.status.lists import ImportLists
from services.status.service import JobQueries
from shared.http.dependencies import typed_dependencies


@dataclass(frozen=True, slots=True)
class StatusDependencies:
    """Holds what create_app made for the endpoints."""

    settings: StatusSettings
    jobs: JobQueries
    lists: ImportLists


Status = Annotated[StatusDependencies, Depends(typed_dependencies(StatusDependencies))]
