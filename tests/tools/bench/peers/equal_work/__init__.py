"""Peers that do the same work as Pinflow: row results, comparisons, checks and events.

Two designs share everything but their way of handing an import on: FastAPI inserts it in the
request, Celery queues it in Redis.
"""
