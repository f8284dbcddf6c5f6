"""What a repair consists of: rows of the catalog, heads of environments, and the lake, each mended by itself."""
