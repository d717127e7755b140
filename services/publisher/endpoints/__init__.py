"""HTTP of the publisher: single pins, what is published, what is scheduled, where to publish."""

from fastapi import APIRouter

from services.publisher.endpoints import jobs, pins, pinterest, schedules
from shared.http import NO_ACCESS

router = APIRouter(responses=NO_ACCESS)
for part in (pins, schedules, jobs, pinterest):
    router.include_router(part.router)
