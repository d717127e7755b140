"""Kafka: connections, producing in batches, and the consumer that loses nothing."""
