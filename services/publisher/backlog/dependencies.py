"""The service and the reader that the endpoints of the backlog use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.publisher.backlog.service import BacklogService
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader


@dataclass(frozen=True, slots=True)
class BacklogDependencies:
    """The objects that create_app builds for the endpoints of the backlog."""

    service: BacklogService
    reader: JsonReader
    """The reader of pins: its limits count the bodies of both."""


STATE_ATTRIBUTE = "backlog_dependencies"
"""The attribute of the application's state that has the BacklogDependencies."""
Backlog = Annotated[
    BacklogDependencies, Depends(typed_dependencies(BacklogDependencies, STATE_ATTRIBUTE))
]
