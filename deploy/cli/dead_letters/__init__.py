"""Finds, explains and replays dead letters for operators. A replay never loses one (ADR 0026)."""
