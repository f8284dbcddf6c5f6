"""The other tools that the benchmarks measure, each in a virtual environment of its own."""
