"""Defines the dependencies of the status service's endpoints."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.status.commands.service import ImportCommandService
from services.status.config import StatusSettings
from services.status.lists import ImportLists
from services.status.service import JobQueries
from services.status.undos import UndoReader
from services.status.uploads.service import Uploads
from services.status.uploads.slots import UploadSlots
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader


@dataclass(frozen=True, slots=True)
class StatusDependencies:
    """The objects that create_app builds for the endpoints."""

    settings: StatusSettings
    jobs: JobQueries
    lists: ImportLists
    undos: UndoReader
    uploads: Uploads
    upload_slots: UploadSlots
    commands: ImportCommandService
    retry_reader: JsonReader


Status = Annotated[StatusDependencies, Depends(typed_dependencies(StatusDependencies))]
