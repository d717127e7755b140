"""Leases and pauses of accounts, and the pause of the app."""
