"""Deletes pins at Pinterest."""
