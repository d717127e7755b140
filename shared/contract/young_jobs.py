"""Says how long an import may be on its way to the status service."""

from datetime import timedelta

MAX_YOUNG_AGE = timedelta(minutes=5)
"""Age up to which a job id may belong to an import that status has not folded yet. Status then asks
ingest for it (docs/decisions/0029-young-jobs.md).

Kafka may append a batch some minutes after the answer `acceptance_unknown`.
"""
