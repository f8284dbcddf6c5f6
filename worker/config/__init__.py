"""The tenant file."""
