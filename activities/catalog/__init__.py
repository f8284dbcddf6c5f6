"""What is recorded in the tenant's warehouse: versions, environments, owners, loads and verdicts."""
