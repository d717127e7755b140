"""Nothing lost, nothing doubled, whatever is killed: a seeded fault run on real processes (make
chaos).

workload   what clients do, and what they were told        ─┐ nemesis    the faults, one after the
other, sometimes two   ├─▶ history ─┐ probe      how long after each the pipeline works again    ─┘
├─▶ checker ─▶ violations, or none world      what stands at the end: API, database, topics
────────────────┘ arena      the processes, servers, and a network between them that can be cut
(network.py) restoring  one of the faults: Postgres is replaced by an older copy; what that must
lose is noted
"""
