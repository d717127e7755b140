"""Delivers the pins of connected accounts to Pinterest: python -m services.publisher.delivery."""
