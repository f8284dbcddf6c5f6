"""Transforms and checks, computed in the warehouse or in Python."""
