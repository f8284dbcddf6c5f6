"""Servers that tests start on the loopback."""
