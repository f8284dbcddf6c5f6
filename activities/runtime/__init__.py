"""What every activity works with: its tenant, its session, heartbeats and failures."""
