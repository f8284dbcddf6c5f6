"""What backfills need: what is known before one begins, and intervals that are loaded side by side."""
