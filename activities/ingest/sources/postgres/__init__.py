"""Tables of PostgreSQL as a source."""
