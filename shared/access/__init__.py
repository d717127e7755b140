"""Workspaces, their API keys, and the accounts and boards they publish to."""
