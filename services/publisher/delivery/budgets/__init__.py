"""Budgets of requests to Pinterest: token buckets and daily quotas."""
