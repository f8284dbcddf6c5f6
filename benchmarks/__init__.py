"""Benchmarks: each prints a table of ratios, all measured in one run, whole processes, peers beside ours."""
