"""Training, and scoring inside the warehouse."""
