"""Data products: what one promises, which changes of that break it, and its Open Data Contract Standard file."""
