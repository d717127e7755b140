"""Reads CSV files as people have them. Ingest and the command line follow this one policy."""
