"""Peers: what others would build for the same job, measured in the same run as Pinflow.

Each is built as well as its users would build it.
"""
