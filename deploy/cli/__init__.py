"""The `pinflow` command: what operators do, and imports from a terminal."""
