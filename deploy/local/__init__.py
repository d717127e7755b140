"""The local stack: a real Kafka, a real Postgres, the gateway and the services, without Docker,
kept by supervisor.

Everything comes from PyPI and Maven Central. `python -m deploy.local` has the commands behind `make
up`, `make down` and `make demo`.
"""
