"""Gets access tokens from the access service."""
