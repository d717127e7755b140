"""What ingest can be told."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.contract.import_limits import MAX_IMPORT_BODY_BYTES
from shared.runtime.settings import ServiceSettings, UploadSettings


class IngestSettings(ServiceSettings, UploadSettings):
    import_body_limit: Annotated[int, Field(ge=1024, le=MAX_IMPORT_BODY_BYTES)] = (
        MAX_IMPORT_BODY_BYTES
    )
    """Bytes of one import's body."""
    import_bodies_at_once: Annotated[int, Field(ge=1024, le=16 * 1024**3)] = 64 * 1024 * 1024
    """Bytes of all imports' bodies that are being read or worked on.

    At least twice import_body_limit.
    """
    imports_at_once: Annotated[int, Field(ge=1, le=64)] = 8
    """Imports that are parsed and written to Kafka at the same time."""
    broker_deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 4.5
    """Seconds after which an import that could not be sent to Kafka is refused
    (`broker_unavailable`): nothing was accepted."""
    acceptance_deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 5.5
    """Seconds after which an import that was sent and not acknowledged is answered
    `acceptance_unknown`. Not below broker_deadline_seconds."""
    import_request_batch: Annotated[int, Field(ge=1, le=100)] = 20
    """Requests taken from the topic at once: each may be 6 MiB."""

    max_unsettled_rows_per_workspace: Annotated[int, Field(ge=1, le=1_000_000_000)] = 100_000
    """A workspace with so many rows accepted and not settled gets 429, of each replica. About five
    seconds' work of one publisher, which bounds what one workspace can put before another's rows
    (docs/decisions/0018); several times what keeps every stage busy.
    """
    max_unsettled_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1_000_000
    """The same for all workspaces together and all replicas.

    A workspace that has nothing unsettled is let in up to a tenth more.
    """
    max_waiting_imports: Annotated[int, Field(ge=1, le=10_000)] = 128
    """HTTP imports that wait for their turn to be parsed and written (imports_at_once at a time).
    Beyond it, 429 at once: they would wait in vain. Each holds its body; a workspace of which none
    waits is let in up to a tenth more."""

    @model_validator(mode="after")
    def _a_body_fits_into_its_half(self) -> Self:
        if self.import_bodies_at_once < 2 * self.import_body_limit:
            raise ValueError(
                f"import_bodies_at_once ({self.import_bodies_at_once}) must be at least twice "
                f"import_body_limit ({self.import_body_limit})"
            )
        return self

    @model_validator(mode="after")
    def _an_answer_may_take_as_long_as_sending(self) -> Self:
        if self.acceptance_deadline_seconds < self.broker_deadline_seconds:
            raise ValueError(
                f"acceptance_deadline_seconds ({self.acceptance_deadline_seconds:g}) must not be "
                "below "
                f"broker_deadline_seconds ({self.broker_deadline_seconds:g}): both count from the "
                "same moment"
            )
        return self
