"""Reads an upload as ingest's endpoint does."""

from fastapi import Request

from services.ingest.parsing.multipart import UploadedFile, open_upload
from shared.http.bodies import BodyReader


async def read_upload(request: Request, limit_bytes: int) -> UploadedFile:
    bodies = BodyReader(limit_bytes=limit_bytes, timeout_seconds=30, total_bytes=2 * limit_bytes)
    async with open_upload(request, bodies) as upload:
        return upload
