"""Limits on a process: concurrent work, memory, fairness between keys, and rates."""
