"""Writes and reads the topic `deliveries`: what may have been sent to Pinterest (ADR 0046)."""
