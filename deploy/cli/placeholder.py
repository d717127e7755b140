"""Defines the image of an example row, which pinflow template writes."""

PLACEHOLDER = "REPLACE with the address of your image"
"""The image of an example row. It is no URL, so the row fails until it is replaced."""
