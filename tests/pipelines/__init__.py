"""Pipelines that the tests run: small, and each with a reason."""
