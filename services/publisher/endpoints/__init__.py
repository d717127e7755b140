"""HTTP of the publisher: single pins, what is published, what is scheduled, where to publish, and the keys."""

from fastapi import APIRouter

from services.publisher.endpoints import api_keys, jobs, pins, pinterest, schedules
from shared.http import NO_ACCESS

router = APIRouter(responses=NO_ACCESS)
for part in (pins, schedules, jobs, pinterest, api_keys):
    router.include_router(part.router)
