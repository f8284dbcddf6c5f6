"""What a worker tells of itself: logs, metrics, and whether it is well."""
