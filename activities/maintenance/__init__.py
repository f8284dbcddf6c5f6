"""What looks after environments: garbage collection, drop and repair."""
