"""Sources: whatever rows come from, read piece by piece. Nothing here knows of versions, runs or warehouses."""
