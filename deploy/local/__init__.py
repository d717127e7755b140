"""The local stack: Kafka, Postgres, the gateway and the services on one machine, without Docker.

supervisor runs the processes. The software comes from PyPI and Maven Central. `make up`,
`make down` and `make demo` run `python -m deploy.local`.
"""
