"""HTTP models, field by field those of pinbridge-sdk 1.10.1."""
