"""Limits on what a process does at once: in number, in bytes, in turn by key, and per second."""
