"""Compares stored positions with Kafka's log, accepts losses, and settles rows that were lost."""
