"""Checks and contracts: what they find in a table, and what they have found before."""
