"""What a run made becomes what an environment shows."""
