"""Names what ingest's endpoints use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.ingest.admission.rates import Rates
from services.ingest.service import Imports
from shared.http.bodies import Bodies
from shared.http.dependencies import provided


@dataclass(frozen=True, slots=True)
class IngestDependencies:
    """Holds what create_app made for the endpoints."""

    imports: Imports
    rates: Rates
    bodies: Bodies


Ingest = Annotated[IngestDependencies, Depends(provided(IngestDependencies))]
