"""Generates clients from the OpenAPI document with the generators that people use, and uses them.

`make clients` installs the generators into their own environment, .venv/clients.
"""
