"""Which code workers run: build ids, Temporal's worker deployments, and what a run waits for."""
