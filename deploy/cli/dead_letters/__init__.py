"""Finds, explains and replays dead letters for operators. A replay loses none (ADR 0026)."""
