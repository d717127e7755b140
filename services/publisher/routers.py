"""HTTP of the publisher: single pins, what is published, what is scheduled, where to publish, and
the keys.
"""

from fastapi import APIRouter

from services.publisher.endpoints import api_keys, pinterest
from services.publisher.pins import endpoints as pins
from services.publisher.pins import job_endpoints as jobs
from services.publisher.pins import schedule_endpoints as schedules
from shared.http.errors import NO_ACCESS

router = APIRouter(responses=NO_ACCESS)
for part in (pins, schedules, jobs, pinterest, api_keys):
    router.include_router(part.router)
