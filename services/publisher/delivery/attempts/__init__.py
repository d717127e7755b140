"""Attempts to create a pin: what they mean, and how they are settled."""
