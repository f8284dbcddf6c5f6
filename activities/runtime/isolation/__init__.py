"""User code in processes of its own: what hangs, eats memory or dies there hurts nobody else."""
