"""Simulates Pinterest's API v5 with OAuth, to try and test Pinflow without an app or a network.

It knows what is documented or reported (docs/reference/simulator.md), and nothing else.
"""
