"""HTTP of the publisher: single pins, what is published and what is scheduled."""

from fastapi import APIRouter

from services.publisher.pins import endpoints as pins
from services.publisher.pins import job_endpoints as jobs
from services.publisher.pins import schedule_endpoints as schedules
from shared.http.app import NO_ACCESS

router = APIRouter(responses=NO_ACCESS)
for part in (pins, schedules, jobs):
    router.include_router(part.router)
