"""Kills of brokers and producers, one after the other, each followed by a check of the topic
`imports`.
"""
