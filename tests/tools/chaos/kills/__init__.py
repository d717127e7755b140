"""Kills brokers or producers, and checks the topic `imports` after each broker or ten producers."""
