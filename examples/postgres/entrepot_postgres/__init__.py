"""PostgreSQL as a backend of Entrepot."""
