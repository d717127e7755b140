"""Pages of filtered, sorted and counted lists, read by bounded index scans.

The indexes hold one workspace's rows in the order of a time. Every further index would cost each
inserted row (docs/decisions/0021-lists.md). So most filters have no index of their own: a scan
checks rows one by one, in the list's order, until the page is full. Most sort orders have no index
either: a scan reads all rows between since and until. No scan reads more than `list_scan_limit`
rows. A query that needs more is rejected, and the error suggests a narrower query. A list
is never silently incomplete.
"""
