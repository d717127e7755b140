"""A fault run on real processes (`make chaos`): no import may be lost or published twice.

The random choices follow from a seed. The modules:

- workload: the clients; api_client: their requests. Both record in the history.
- campaigns: clients that check, cancel, retry and undo their imports and change single pins;
  steering_client: their requests, which are sent until they are answered. A run with restores has
  none: a restore may lose what was never in Kafka, such as an undo.
- nemesis: the faults, one after the other, sometimes two at once. restores: the fault that replaces
  Postgres with an older copy. skewed_clock: runs a service with a wrong clock.
- probe: measures after each fault how long the pipeline needs to recover.
- arena: the processes and servers; network: the proxies between them, which can be cut.
- history: what clients sent and which answers they got.
- observer: reads the final state from the API, the database and the topics (final_state).
- checker: compares the history with the final state and returns violations. campaign_model: what
  each key of a campaign must have after each step.
- diagnosis: shows where the system is stuck; report: summarizes the run.

`kills` and `pause` are separate commands.
"""
