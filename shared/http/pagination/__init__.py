"""Lists in pages: filtered, sorted and counted by walks along indexes, none of them longer than it
may be.

The indexes have one workspace's rows in the order of a time, and every row that is inserted pays
for no more of them (docs/decisions/0021-lists.md). So most filters have none of their own: they
look at rows one by one, in the list's order, until the page is full; and most orders have none:
they look at all rows there are between since and until. At no more than `list_scan_limit` of them,
either way: beyond it the question is refused, with a narrower one that will be answered. A list is
never silently incomplete.
"""
