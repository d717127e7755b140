"""The `pinflow` command: administration for operators, and imports from a terminal."""
