"""The dependencies of ingest's endpoints."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.ingest.admission.rate_meter import RateMeter
from services.ingest.service import ImportService
from shared.http.bodies import BodyReader
from shared.http.dependencies import typed_dependencies


@dataclass(frozen=True, slots=True)
class IngestDependencies:
    """The objects that `create_app` builds for the endpoints."""

    imports: ImportService
    rate_meter: RateMeter
    bodies: BodyReader


Ingest = Annotated[IngestDependencies, Depends(typed_dependencies(IngestDependencies))]
