"""Delivers pins to the simulator of Pinterest under faults, and lets its own log judge.

python -m tests.tools.chaos.deliveries [--pins N] [--accounts N] [--seed N] [--brokers 1|3]
[--restores]
"""
