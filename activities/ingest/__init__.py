"""From sources into the lake, and from there into the warehouse."""
