"""Kafka: connections, administration, producing in batches, and consuming at least once."""
