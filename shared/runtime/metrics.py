"""What Prometheus is told.

Names are a contract with dashboards and alerts: change them as you would an event.
"""

from prometheus_client import Counter, Gauge, Histogram

ROWS_SETTLED = Counter(
    "pinflow_rows_settled",
    "Rows that have their outcome, counted where it is decided.",
    ["service", "status"],
)
IMPORTS = Counter(
    "pinflow_imports", "Imports by what became of the request.", ["source", "outcome"]
)
UNSETTLED_ROWS = Gauge(
    "pinflow_unsettled_rows",
    "Rows accepted and not settled, in the whole system. NaN while Kafka does not tell; each "
    "replica says the same.",
)
IMPORTS_REFUSED = Counter(
    "pinflow_imports_refused",
    "Imports that found no room: 429, or waited for by the topic.",
    ["source", "reason"],
)
DEAD_LETTERS = Counter("pinflow_dead_letters", "Records given up.", ["service", "topic", "code"])

BATCH_RECORDS = Histogram(
    "pinflow_batch_records",
    "Records in a consumed batch.",
    ["consumer"],
    buckets=(1, 5, 20, 50, 100, 250, 500, 1000, 2000, 5000),
)
BATCH_SECONDS = Histogram(
    "pinflow_batch_seconds",
    "From a batch's arrival to its commit.",
    ["consumer"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
BATCH_RETRIES = Counter(
    "pinflow_batch_retries",
    "Batches put back because a server was away or something broke.",
    ["consumer"],
)
OLDEST_UNPROCESSED_SECONDS = Gauge(
    "pinflow_oldest_unprocessed_seconds",
    "Age of the oldest record that this consumer has and has not committed.",
    ["consumer", "member"],
)
CONSUMER_HALTED = Gauge(
    "pinflow_consumer_halted",
    "1 when everything was poison and the consumer waits for a human.",
    ["consumer", "member"],
)
PARTITION_STALLED_SECONDS = Gauge(
    "pinflow_partition_stalled_seconds",
    "For how long a partition has stood still although records wait, or its leader has answered "
    "no fetch although others did. 0 when all is well. On import-requests a transaction that its "
    "producer left open counts: nothing behind its first record is read before it is aborted.",
    ["consumer", "topic", "partition"],
)
POSITION_REFUSED = Gauge(
    "pinflow_position_refused",
    "1 while a partition is not consumed until an operator accepts a loss with pinflow recover; "
    "0 when that is over. `refusal`: before_begin, beyond_end or other_cluster.",
    ["service", "topic", "partition", "refusal"],
)
REPLAYS = Counter(
    "pinflow_replays",
    "Partitions whose records are processed a second time because Postgres is older than Kafka.",
    ["service"],
)
REPLAY_RECORDS = Gauge(
    "pinflow_replay_records",
    "Records of a partition left to process a second time. 0 when the replay has ended.",
    ["service", "topic", "partition"],
)

HTTP_SECONDS = Histogram(
    "pinflow_http_seconds",
    "Requests by route and status.",
    ["service", "method", "route", "status"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)

WEBHOOK_ATTEMPTS = Counter(
    "pinflow_webhook_attempts",
    "Requests to receivers of webhooks, by what came of them.",
    ["outcome"],
)
WEBHOOK_SECONDS = Histogram(
    "pinflow_webhook_seconds",
    "How long receivers took to answer, or not to.",
    buckets=(0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
WEBHOOK_OLDEST_DUE_SECONDS = Gauge(
    "pinflow_webhook_oldest_due_seconds",
    "How long the longest-waiting delivery has been due, of enabled webhooks. Each replica says "
    "the same.",
)
WEBHOOKS_DISABLED = Counter(
    "pinflow_webhooks_disabled", "Webhooks that were switched off.", ["reason"]
)

UPLOADS_KEPT_BYTES = Counter(
    "pinflow_uploads_kept_bytes",
    "Bytes of uploads kept, as packed. A redelivered upload counts again.",
)
