"""Environments beside one another: made of another, compared, promoted, listed, and dropped."""
