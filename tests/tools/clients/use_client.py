"""Imports a file, lists, and cancels a schedule, with the client that openapi-python-client made.

Runs in .venv/clients. Arguments: the gateway's address, the CSV file, and a JSON object with the
fields of a schedule. The API key is in PINFLOW_API_KEY. Prints what it saw as JSON.
"""

import json
import os
import sys
from pathlib import Path

from pinflow_client import AuthenticatedClient
from pinflow_client.api.imports import get_import, import_csv, list_imports
from pinflow_client.api.schedules import cancel_schedule, create_schedule, list_schedules
from pinflow_client.models import (
    CsvUpload,
    ImportAcceptedResponse,
    ImportJobResponse,
    ScheduleResponse,
    ScheduleSubmission,
)
from pinflow_client.types import File


def main(base_url: str, path: str, schedule: str) -> None:
    client = AuthenticatedClient(
        base_url, os.environ["PINFLOW_API_KEY"], raise_on_unexpected_status=True
    )
    with client, Path(path).open("rb") as file:
        upload = CsvUpload(File(payload=file, file_name="campaign.csv", mime_type="text/csv"))
        accepted = import_csv.sync(client=client, body=upload)
        assert isinstance(accepted, ImportAcceptedResponse), accepted
        job = get_import.sync(str(accepted.id), client=client, prefer="wait=30")
        assert isinstance(job, ImportJobResponse), job
        jobs = list_imports.sync(client=client, limit=10)
        assert isinstance(jobs, list), jobs
        created = create_schedule.sync(
            client=client, body=ScheduleSubmission.from_dict(json.loads(schedule))
        )
        assert isinstance(created, ScheduleResponse), created
        waiting = list_schedules.sync(client=client)
        assert isinstance(waiting, list), waiting
        canceled = cancel_schedule.sync(str(created.id), client=client)
        assert isinstance(canceled, ScheduleResponse), canceled
    seen = {
        "status": job.status,
        "rows": [row.status for row in job.results],
        "imports": [str(item.id) == str(accepted.id) for item in jobs],
        "schedules": [str(item.id) == str(created.id) for item in waiting],
        "canceled": canceled.status,
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
