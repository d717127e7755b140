"""Path parameters of a job's endpoints."""

from typing import Annotated

from fastapi import Path

JobId = Annotated[str, Path(description="The job's id.")]
