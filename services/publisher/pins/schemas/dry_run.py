"""HTTP models of a dry run."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel

from services.publisher.pins.dry_run.report import CheckName, CheckStatus, Report


class PinValidationCheck(BaseModel):
    name: CheckName
    status: CheckStatus
    code: str | None = None
    message: str
    remediation: str | None = None
    details: dict[str, Any] | None = None


class PinValidationResponse(BaseModel):
    """`valid` is true if no check failed. `headroom` is always null: Pinflow has no quota."""

    valid: bool
    dry_run: bool = True
    checks: list[PinValidationCheck]
    resolved: dict[str, Any] | None = None
    existing_pin_id: UUID | None = None
    headroom: dict[str, Any] | None = None

    @classmethod
    def from_report(cls, report: Report) -> "PinValidationResponse":
        checks = [PinValidationCheck(**check._asdict()) for check in report.checks]
        return cls(
            valid=report.valid,
            checks=checks,
            resolved=report.resolved,
            existing_pin_id=report.existing_pin_id,
        )
