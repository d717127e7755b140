"""The delivery process with the real Postgres and the simulator of Pinterest."""
