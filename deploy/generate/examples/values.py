"""Defines the values of the fields in examples, and the examples of texts."""

from typing import Any
from uuid import UUID

from deploy.services import CHECKED_SERVICES
from shared.access.errors import describe_board_failure
from shared.access.model import BoardCheck, Destination

ACCOUNT = "7b0f3f64-5d2e-4d0f-9c4e-3f1a0c9b8d01"
BOARD = "1034280089391227812"
PIN = "3f0c1b52-8f0e-5c0b-9d2a-7d1c9f6a4e10"
SCHEDULE = "9a4b6f1e-2c7d-5e3f-8b1a-0c5d7e9f2a34"
JOB = "0199c0de-7a51-7c3e-9a5b-2f4d6e8a0b1c"
EVENT = "evt_4d7c9a1e5b3f5d2c8e6a0f9b7c5d3e18"
ATTEMPT = "5b8e2d10-6c3f-4a97-b1d4-8e0f7c2a9d63"
NOW, LATER, RUN_AT = "2026-11-28T09:30:00Z", "2026-11-28T09:30:01Z", "2027-03-06T10:00:00Z"
SOON = "2026-11-28T09:45:00Z"
CONNECTED = "The account is connected to Pinterest."
IMAGE = "https://cdn.shop.example/lamps/floor.jpg"
DESCRIPTION = "Warm light for long evenings"
_NO_BOARD_CODE, _NO_BOARD = describe_board_failure(
    BoardCheck.NO_BOARD, Destination(UUID(int=0), UUID(ACCOUNT), BOARD)
)
NO_BOARD = str(_NO_BOARD_CODE)
CONTENT = {
    "account_id": ACCOUNT,
    "board_id": BOARD,
    "title": "Floor lamp",
    "description": DESCRIPTION,
    "link_url": "https://shop.example/lamps/floor",
    "image_url": IMAGE,
    "idempotency_key": "lamp-floor-2026",
}
FAILED_ROW = {
    "row_number": 2,
    "status": "failed",
    "pin_id": None,
    "idempotency_key": "lamp-desk-2026",
    "error_code": NO_BOARD,
    "error_message": _NO_BOARD,
}

VALUES: dict[str, Any] = {
    **CONTENT,
    "api_key": "pf_4Xq9TzL…",
    "attempt_count": 1,
    "checked_at": NOW,
    "completed_at": LATER,
    "created_at": NOW,
    "display_name": "My shop",
    "docs": "/docs",
    "environment": "local",
    "errors": [],
    "event_id": EVENT,
    "events": ["pin.failed", "import.completed_with_errors"],
    "failed_at": None,
    "id": PIN,
    "ids": [PIN],
    "index": 0,
    "is_enabled": True,
    "job_id": JOB,
    "media_url": IMAGE,
    "missing_scopes": [],
    "pin_id": PIN,
    "pinterest_account_id": ACCOUNT,
    "pinterest_account_ids": [ACCOUNT],
    "pinterest_user_id": ACCOUNT,
    "prefix": "pf_4Xq9TzL",
    "privacy": "PUBLIC",
    "published_at": NOW,
    "row_number": 1,
    "run_at": RUN_AT,
    "scopes": ["read", "write"],
    "secret": "at-least-sixteen-characters",  # pragma: allowlist secret
    "service": "pinflow",
    "submitted_at": NOW,
    "undo": None,
    "updated_at": NOW,
    "url": "https://hooks.shop.example/pinflow",
    "username": "my-shop",
    "version": "0.1.0",
    "warnings": [],
    "webhook_id": "e5d1c3b7-6a9f-4c2e-8d0b-3f7a1e5c9b26",
    "workspace_id": "6f1c2d4e-93a7-4a55-8a0b-5f5f1f0f3c21",
}
"""The value of a field, by its name. A field that can be null is null if it is not listed."""

MODEL_VALUES: dict[str, dict[str, Any]] = {
    "AccountHealth": {"health_status": "healthy", "reconnect_required": False},
    "AccountResponse": {
        "scopes": "boards:read,boards:write,pins:read,pins:write,user_accounts:read",
        "id": ACCOUNT,
        "pinterest_user_id": "885512345678901234",
        "token_expires_at": "2026-12-28T09:30:00Z",
        "health_status": "healthy",
        "health_checked_at": NOW,
        "reconnect_required": False,
    },
    "ApiKeyCreate": {"name": "campaign tool"},
    "ApiKeyCreateResponse": {"id": "c2a7e1f0-4b8d-4e6a-9f3c-1d5b7a9e0f42", "name": "campaign tool"},
    "ApiKeyResponse": {"id": "c2a7e1f0-4b8d-4e6a-9f3c-1d5b7a9e0f42", "name": "campaign tool"},
    "ApiKeyUpdate": {"name": "campaign tool"},
    "BoardAccessResponse": {"publishable": True, "message": "Pins can be published to the board."},
    "BoardCreate": {"name": "Lamps", "description": "Light for every room"},
    "BoardResponse": {"id": BOARD, "name": "Lamps", "description": "Light for every room"},
    "BoardUpdate": {"name": "Lamps", "description": "Light for every room"},
    "BulkResponse": {"succeeded_count": 1},
    "HealthResponse": {"status": "ok"},
    "ImportAcceptedResponse": {
        "id": JOB,
        "total_rows": 1,
        "completed_at": None,
        "publishing_now": 1,
        "scheduled_for_later": 0,
    },
    "ImportCheckResponse": {
        "total_rows": 2,
        "created_rows": 1,
        "failed_rows": 1,
        "publishing_now": 2,
        "scheduled_for_later": 0,
        "results": [{}, FAILED_ROW],
    },
    "ImportEndedData": {"total_rows": 2, "processed_rows": 2},
    "ImportEndedPayload": {"id": EVENT},
    "ImportJobResponse": {
        "id": JOB,
        "status": "completed_with_errors",
        "total_rows": 2,
        "processed_rows": 2,
        "created_rows": 1,
        "failed_rows": 1,
        "started_at": NOW,
        "publishing_now": 2,
        "scheduled_for_later": 0,
        "results": [{}, FAILED_ROW],
    },
    "ImportCancellationResponse": {
        "id": JOB,
        "status": "completed_with_errors",
        "total_rows": 3,
        "processed_rows": 3,
        "created_rows": 1,
        "failed_rows": 2,
        "canceled_rows": 2,
        "canceled_schedules": [{}],
        "withdrawn_pins": [],
        "left": [],
    },
    "CanceledScheduleResponse": {"schedule_id": SCHEDULE},
    "LeftScheduleResponse": {"schedule_id": SCHEDULE, "reason": "published"},
    "ImportUndoResponse": {
        "undo_id": "b6d0c3f2-7e15-4a8b-9c64-2f0d8e1a5b73",
        "undone_at": LATER,
        "dry_run": False,
        "undone_rows": 1,
        "left_rows": 1,
        "undone": [{}],
        "left": [{}],
    },
    "TimelineEvent": {"event": "accepted"},
    "UndoneRow": {"action": "deleted"},
    "LeftRow": {"row_number": 2, "reason": "changed"},
    "RowTimelineResponse": {
        "status": "created",
        "run_at": None,
        "state": "published",
        "events": [
            {"event": "accepted", "at": NOW, "detail": "Kafka had the whole import."},
            {"event": "settled", "at": LATER, "detail": "created: a pin or a schedule."},
        ],
    },
    "RowCorrection": {"row_number": 3},
    "DeliveryPauseResponse": {
        "code": "rate_limited",
        "message": "Pinterest limits the account's requests for a while. Pinflow continues by "
        "itself.",
        "until": SOON,
    },
    "DeliveryResponse": {
        "queued_count": 180,
        "publishing_count": 1,
        "oldest_queued_at": NOW,
        "estimated_end": RUN_AT,
    },
    "JobStatusResponse": {"job_id": PIN, "status": "published"},
    "OAuthAttemptResponse": {"id": ATTEMPT, "status": "connected", "expires_at": SOON},
    "OAuthCallbackResponse": {"message": CONNECTED},
    "OAuthStartResponse": {
        "authorization_url": "https://www.pinterest.com/oauth/?client_id=1500000&redirect_uri="
        "https%3A%2F%2Fpins.shop.example%2Fv1%2Fpinterest%2Foauth%2Fcallback&response_type=code"
        "&scope=boards%3Aread%2Cpins%3Awrite%2Cuser_accounts%3Aread&state=gAAAAABp…",
        "attempt_id": ATTEMPT,
        "expires_at": SOON,
    },
    "PinBatchResponse": {"created_count": 1},
    "PinFailedData": {
        "schedule_id": SCHEDULE,
        "error_code": NO_BOARD,
        "error_message": _NO_BOARD,
        "failed_at": RUN_AT,
    },
    "PinFailedPayload": {"id": EVENT, "created_at": RUN_AT},
    "PinPublishedPayload": {"id": EVENT},
    "PinResponse": {"status": "published"},
    "PinSubmission": {"run_at": None},
    "PinValidationCheck": {"message": "All fields are valid."},
    "PinValidationResponse": {"valid": True, "resolved": CONTENT},
    "PublishedPinResponse": {"status": "published"},
    "RateMeterNode": {
        "tokens_available": 987_300,
        "capacity": 1_000_000,
        "refill_rate": 2150.5,
    },
    "RateMeterAccount": {
        "tokens_available": 99_500,
        "capacity": 100_000,
        "refill_rate": 2150.5,
    },
    "ReadinessResponse": {
        "status": "ok",
        "database": "ok",
        "checks": {
            "runtime": "ok",
            "database": "ok",
            **dict.fromkeys(CHECKED_SERVICES, "ok"),
        },
    },
    "ScheduleResponse": {"id": SCHEDULE, "pin_id": None, "payload": CONTENT},
    "WebhookDeliveryResponse": {
        "id": "0199c0de-7d10-7f19-9f7a-8b6c4d2e0f19",
        "event_type": "pin.failed",
        "payload": {
            "id": EVENT,
            "type": "pin.failed",
            "event": "pin.failed",
            "created_at": RUN_AT,
            "workspace_id": VALUES["workspace_id"],
            "data": {"pin_id": PIN, "error_code": NO_BOARD, "error_message": _NO_BOARD},
        },
        "last_status_code": 503,
        "last_error": "503 Service Unavailable",
        "next_attempt_at": LATER,
    },
    "WebhookResponse": {"id": "e5d1c3b7-6a9f-4c2e-8d0b-3f7a1e5c9b26"},
}
"""The values of a model that differ from VALUES."""

OPERATION_VALUES: dict[str, dict[str, Any]] = {
    "cancel_schedule": {"status": "canceled"},
    "edit_pin": {"status": "failed", "published_at": None, "failed_at": LATER},
    "retry_import": {
        "status": "queued",
        "total_rows": 1,
        "processed_rows": 0,
        "created_rows": 0,
        "failed_rows": 0,
        "started_at": None,
        "completed_at": None,
        "publishing_now": 1,
        "results": [],
        "parent_id": "0199c0dd-51e2-7b90-8c1f-6a3e5d7b9f02",
        "error_counts": {},
    },
    "import_csv": {"source_type": "csv", "source_filename": "autumn.csv"},
    "import_failed": {
        "type": "import.failed",
        "event": "import.failed",
        "data": {"status": "failed", "failed_rows": 2},
    },
    "import_completed": {"data": {"status": "completed", "created_rows": 2}},
    "import_completed_with_errors": {
        "type": "import.completed_with_errors",
        "event": "import.completed_with_errors",
        "data": {"status": "completed_with_errors", "created_rows": 1, "failed_rows": 1},
    },
    "get_import": {"error_counts": {NO_BOARD: 1}},
    "list_imports": {"results": []},
}
"""The values of an operation's body, or of each item if it is a list."""

TEXTS = {
    "OAuthCallbackPage": f"<!doctype html>…<p>{CONNECTED}</p>…",
    "ResultsAsCsv": (
        "row_number,line,status,pin_id,schedule_id,idempotency_key,error_code,error_message,"
        "payload_matches,existing_state,differing_fields,updated\r\n"
        f"1,2,created,{PIN},,lamp-floor-2026,,,,,,\r\n"
    ),
    "ResultsAsLines": f'{{"row_number":1,"status":"created","pin_id":"{PIN}"}}\n',
    "ResultsFile": (
        "account_id,board_id,title,image_url,idempotency_key,line,status,pin_id,schedule_id,"
        "error_code,error_message\r\n"
        f"{ACCOUNT},{BOARD},Floor lamp,{IMAGE},lamp-floor-2026,2,created,{PIN},,,\r\n"
    ),
}
"""The examples of texts, by the title of their schema."""
