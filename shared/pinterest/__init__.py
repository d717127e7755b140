"""Calls Pinterest's API v5: settings, the client, and what a failed call means."""
