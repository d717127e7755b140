"""Builds examples for the OpenAPI document: a body for each request and response.

An example is built from its schema, with one value for each name of a field. So all examples show
the same pin, schedule, import and account, and a new endpoint needs no example of its own. A test
validates each against its schema.
"""
