"""Durable orchestration. Deterministic: these modules see messages, names and time, and nothing else."""
