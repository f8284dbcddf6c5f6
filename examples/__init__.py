"""Pipelines to learn from. `flights` is the demo."""
