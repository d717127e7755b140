"""The settings of the ingest service."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.contract.import_limits import MAX_IMPORT_BODY_BYTES
from shared.runtime.settings import PublisherUrlSettings, ServiceSettings, UploadSettings


class IngestSettings(ServiceSettings, UploadSettings, PublisherUrlSettings):
    import_body_limit: Annotated[int, Field(ge=1024, le=MAX_IMPORT_BODY_BYTES)] = (
        MAX_IMPORT_BODY_BYTES
    )
    """Maximum bytes of one import's body."""
    import_bodies_at_once: Annotated[int, Field(ge=1024, le=16 * 1024**3)] = 64 * 1024 * 1024
    """Maximum bytes of all import bodies that are read or processed at the same time.

    At least twice PINFLOW_IMPORT_BODY_LIMIT.
    """
    imports_at_once: Annotated[int, Field(ge=1, le=64)] = 8
    """Maximum HTTP imports that are parsed and written to Kafka at the same time. An import that
    waits for Kafka for more than 0.1 s no longer counts. The imports of one batch from
    `import-requests` have a limit of the same size.
    """
    broker_deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 4.5
    """Seconds after which an import that was not sent to Kafka is refused with
    `broker_unavailable`. Nothing was accepted then."""
    acceptance_deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 5.5
    """Seconds after which an import that was sent but not acknowledged is answered with
    `acceptance_unknown`. At least PINFLOW_BROKER_DEADLINE_SECONDS."""
    import_request_batch: Annotated[int, Field(ge=1, le=100)] = 20
    """Maximum requests in one batch from the topic `import-requests`. Each may have up to 6 MiB."""

    idempotency_key_days: Annotated[int, Field(ge=1, le=365)] = 7
    """Days for which an import's `Idempotency-Key` is remembered. After that, the same request is a
    new import, whose rows are `existing`.
    """

    max_unsettled_rows_per_workspace: Annotated[int, Field(ge=1, le=1_000_000_000)] = 100_000
    """A workspace with this many unsettled rows gets 429 for further imports. A row is unsettled
    from its acceptance until it has a result. Each replica counts the rows that it accepted. One
    publisher settles the default in about 5 seconds. Other workspaces' rows wait at most about that
    long for each flooding workspace and each replica of ingest (docs/decisions/0018). The default
    is several times the backlog that keeps all services busy.
    """
    max_unsettled_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1_000_000
    """With this many unsettled rows in all workspaces and replicas together, imports get 429.

    For a workspace without unsettled rows the limit is 10 % higher.
    """
    max_waiting_imports: Annotated[int, Field(ge=1, le=10_000)] = 128
    """Maximum HTTP imports that wait until they can be parsed and written
    (PINFLOW_IMPORTS_AT_ONCE at a time). Each holds its body in memory. Further imports get 429 at
    once, because they would wait too long. For a workspace without a waiting import the limit is
    10 % higher.
    """

    @model_validator(mode="after")
    def _require_capacity_for_two_bodies(self) -> Self:
        if self.import_bodies_at_once < 2 * self.import_body_limit:
            raise ValueError(
                f"PINFLOW_IMPORT_BODIES_AT_ONCE ({self.import_bodies_at_once}) must be at least "
                f"twice PINFLOW_IMPORT_BODY_LIMIT ({self.import_body_limit})"
            )
        return self

    @model_validator(mode="after")
    def _require_acceptance_after_broker_deadline(self) -> Self:
        if self.acceptance_deadline_seconds < self.broker_deadline_seconds:
            raise ValueError(
                "PINFLOW_ACCEPTANCE_DEADLINE_SECONDS "
                f"({self.acceptance_deadline_seconds:g}) must be at least "
                f"PINFLOW_BROKER_DEADLINE_SECONDS ({self.broker_deadline_seconds:g}): both count "
                "from the same moment"
            )
        return self
