"""Kills brokers and producers one after the other, and checks the topic `imports` after each."""
