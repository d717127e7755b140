"""The services: each is `python -m services.NAME`, has the database role `pinflow_NAME`, and an
upstream of the gateway's.
"""

SERVICES = ("ingest", "publisher", "access", "status", "webhooks")
ANSWERED_FOR = tuple(name for name in SERVICES if name != "status")
"""Whom the status service, whose readiness is the gateway's, asks for theirs."""
