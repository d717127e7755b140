"""The dependencies of ingest's endpoints."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.ingest.admission.rate_meter import RateMeter
from services.ingest.checks import ImportChecker
from services.ingest.keyed_imports import KeyedImportService
from services.ingest.service import ImportService
from shared.http.bodies import BodyReader
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader


@dataclass(frozen=True, slots=True)
class IngestDependencies:
    """The objects that `create_app` builds for the endpoints."""

    imports: ImportService
    keyed_imports: KeyedImportService
    checker: ImportChecker
    rate_meter: RateMeter
    bodies: BodyReader
    retries: JsonReader
    """Reads the bodies of retries."""


Ingest = Annotated[IngestDependencies, Depends(typed_dependencies(IngestDependencies))]
