"""Defines the Prometheus metrics.

Dashboards and alerts depend on the names and labels: change them as carefully as an event's fields.
"""

from prometheus_client import Counter, Gauge, Histogram

ROWS_SETTLED = Counter(
    "pinflow_rows_settled",
    "Rows that got an outcome. The service that decided the outcome counts it.",
    ["service", "status"],
)
IMPORTS = Counter(
    "pinflow_imports", "Requested imports, by the outcome of the request.", ["source", "outcome"]
)
IMPORTS_REPLAYED = Counter(
    "pinflow_imports_replayed",
    "Imports with an idempotency key that were accepted before: the answer was the first one's.",
    ["channel"],
)
IMPORT_CHECKS = Counter(
    "pinflow_import_checks", "Dry runs of imports that were answered.", ["source"]
)
PINS_UNDONE = Counter(
    "pinflow_pins_undone",
    "Pins that an undo of their import deleted, and schedules that it canceled.",
    ["action"],
)
SCHEDULES_CANCELED = Counter(
    "pinflow_schedules_canceled", "Schedules that were canceled together with their import."
)
PINS_WITHDRAWN = Counter(
    "pinflow_pins_withdrawn",
    "Pins that waited for their delivery and were deleted together with their import.",
)
PINS_LEFT = Counter(
    "pinflow_pins_left",
    "Pins and schedules that an undo or a cancellation of their import left, by the reason.",
    ["command", "reason"],
)
UNSETTLED_ROWS = Gauge(
    "pinflow_unsettled_rows",
    "The backlog: accepted rows without an outcome, in the whole system. All replicas report the "
    "same value. NaN while the publisher's lag can't be read from Kafka.",
)
IMPORTS_REFUSED = Counter(
    "pinflow_imports_refused",
    "Imports refused because the backlog or the queue of waiting imports was at a limit. Over HTTP "
    "they got 429. On the topic import-requests they wait.",
    ["source", "reason"],
)
DEAD_LETTERS = Counter(
    "pinflow_dead_letters", "Records that became dead letters.", ["service", "topic", "code"]
)

BATCH_RECORDS = Histogram(
    "pinflow_batch_records",
    "Records per consumed batch.",
    ["consumer"],
    buckets=(1, 5, 20, 50, 100, 250, 500, 1000, 2000, 5000),
)
BATCH_SECONDS = Histogram(
    "pinflow_batch_seconds",
    "Seconds from a batch's arrival to its commit.",
    ["consumer"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
BATCH_RETRIES = Counter(
    "pinflow_batch_retries",
    "Retries of batches after a server was unavailable or an error occurred.",
    ["consumer"],
)
OLDEST_UNPROCESSED_SECONDS = Gauge(
    "pinflow_oldest_unprocessed_seconds",
    "Age in seconds of the oldest record in the batch that this consumer is processing. 0 while it "
    "processes none.",
    ["consumer", "member"],
)
CONSUMER_HALTED = Gauge(
    "pinflow_consumer_halted",
    "1 while the consumer is halted because too many consecutive records are poison. See "
    "consumer_halted in its log.",
    ["consumer", "member"],
)
PARTITION_STALLED_SECONDS = Gauge(
    "pinflow_partition_stalled_seconds",
    "Seconds for which a partition has made no progress although records wait, or has had no "
    "answer to a fetch although other partitions have. Otherwise 0. On import-requests, a "
    "producer's open transaction also causes this: later records can't be read until it ends.",
    ["consumer", "topic", "partition"],
)
POSITION_REFUSED = Gauge(
    "pinflow_position_refused",
    "1 while a partition is not consumed because its position does not fit Kafka's log. Run "
    "pinflow recover to see and accept the loss. `refusal` is before_begin, beyond_end or "
    "other_cluster.",
    ["service", "topic", "partition", "refusal"],
)
REPLAYS = Counter(
    "pinflow_replays",
    "Replays started: a partition's records are processed again because Postgres was restored to "
    "an older state than Kafka.",
    ["service"],
)
REPLAY_RECORDS = Gauge(
    "pinflow_replay_records",
    "Records of a partition that a replay still has to process. 0 when the replay has ended.",
    ["service", "topic", "partition"],
)
DELIVERY_OPEN = Gauge(
    "pinflow_delivery_open",
    "1 while pins may be sent to Pinterest. 0 while Postgres may be older than Kafka, or either "
    "does not answer. The delivery process's /readyz says why. Only a delivery process has it.",
    ["mode"],  # without a label, every process would expose it with the value 0
)
DELIVERY_ATTEMPTS_RESTORED = Counter(
    "pinflow_delivery_attempts_restored",
    "Attempts to create a pin that a restored Postgres lacked, and that were read from Kafka.",
)
DELIVERY_LOST_PINS = Gauge(
    "pinflow_delivery_lost_pins",
    "Pins that are on Pinterest and that Postgres lost in a restore. pinflow recover lists them.",
)

HTTP_SECONDS = Histogram(
    "pinflow_http_seconds",
    "Seconds per request, by route and status.",
    ["service", "method", "route", "status"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)

WEBHOOK_ATTEMPTS = Counter(
    "pinflow_webhook_attempts",
    "Requests to webhook receivers, by outcome.",
    ["outcome"],
)
WEBHOOK_SECONDS = Histogram(
    "pinflow_webhook_seconds",
    "Seconds until a webhook receiver answered or the request failed.",
    buckets=(0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
WEBHOOK_OLDEST_DUE_SECONDS = Gauge(
    "pinflow_webhook_oldest_due_seconds",
    "Seconds for which the oldest due delivery of any enabled webhook has waited. All replicas "
    "report the same value.",
)
WEBHOOKS_DISABLED = Counter(
    "pinflow_webhooks_disabled", "Webhooks that Pinflow disabled.", ["reason"]
)

UPLOADS_KEPT_BYTES = Counter(
    "pinflow_uploads_kept_bytes",
    "Compressed bytes of stored uploads. An upload that Kafka delivers twice counts twice.",
)

PINTEREST_REQUESTS = Counter(
    "pinflow_pinterest_requests",
    "Requests to Pinterest, by operation and outcome: success, not_sent, answer_lost (also 5xx "
    "and answers that can't be read), or refused_ and the cause (token, scope, app, permission, "
    "not_found, rate_limit, spam_block, fetch, content).",
    ["operation", "outcome"],
)
PINTEREST_SECONDS = Histogram(
    "pinflow_pinterest_seconds",
    "Seconds until Pinterest answered or the request failed.",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120),
)
PINTEREST_TOKEN_REFRESHES = Counter(
    "pinflow_pinterest_token_refreshes",
    "Refreshes of the tokens of connections, by outcome: refreshed, failed (Pinterest was "
    "unavailable; the old tokens stay), refused, key_missing.",
    ["outcome"],
)
PINTEREST_TOKENS_EXPIRING = Gauge(
    "pinflow_pinterest_tokens_expiring",
    "Connections whose access token expires within 3 days, or has expired, because it could not be "
    "refreshed. All replicas report the same value.",
)
PINTEREST_RECONNECT_REQUIRED = Gauge(
    "pinflow_pinterest_reconnect_required",
    "Accounts that work only after their user connects them again: Pinterest refused their tokens "
    "or a right, they belong to another mode, or they were restored after a disconnect. Revoked "
    "accounts do not count. All replicas report the same value.",
)
PINTEREST_TOKENS_UNREADABLE = Gauge(
    "pinflow_pinterest_tokens_unreadable",
    "Connections whose tokens were encrypted with a key that is not set. All replicas with the "
    "same keys report the same value.",
)

DELIVERY_ATTEMPTS = Counter(
    "pinflow_delivery_attempts",
    "Attempts to create a pin on Pinterest, by outcome: created, refused, not_sent, answer_lost "
    "(the pin is confirmed, and counts again as found, absent or unconfirmed), late (the answer "
    "came after the attempt was settled).",
    ["outcome"],
)
DELIVERY_SECONDS = Histogram(
    "pinflow_delivery_seconds",
    "Seconds from the time when a pin was due until Pinterest had it.",
    buckets=(0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600, 14_400, 86_400),
)
DELIVERY_PINS = Gauge(
    "pinflow_delivery_pins",
    "Pins that wait for their delivery to Pinterest, by state: queued, uploading (their video is "
    "on its way to Pinterest), deferred (their account, the app or their own image is paused), "
    "publishing, confirming. A pin is queued again if nobody works at its video. All replicas "
    "report the same value.",
    ["state"],
)
DELIVERY_OLDEST_SECONDS = Gauge(
    "pinflow_delivery_oldest_seconds",
    "Seconds for which the oldest pin of a state has been due, by state: queued, uploading, "
    "deferred, publishing, confirming. 0 without one. All replicas report the same value.",
    ["state"],
)
DELIVERY_PAUSED_ACCOUNTS = Gauge(
    "pinflow_delivery_paused_accounts",
    "Accounts whose deliveries are paused, by the code of the pause. All replicas report the same "
    "value.",
    ["code"],
)
DELIVERY_LONGEST_PAUSE_SECONDS = Gauge(
    "pinflow_delivery_longest_pause_seconds",
    "Seconds for which one account has been paused, by the code of its pause: the longest of all "
    "accounts. Pauses without a created pin between them are one. All replicas report the same "
    "value.",
    ["code"],
)
DELIVERY_APP_PAUSED = Gauge(
    "pinflow_delivery_app_paused",
    "1 while the deliveries of all accounts are paused, by the code of the pause. All replicas "
    "report the same value.",
    ["code"],
)
