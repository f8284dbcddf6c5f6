"""Data products: what may be published of them, their list, and their Open Data Contract Standard files."""
