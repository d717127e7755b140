"""Proves the client against Pinterest's sandbox: make pinterest-sandbox."""
