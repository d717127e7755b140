"""Provides the media of pins: images by URL or as bytes, and videos (ADR 0048)."""
