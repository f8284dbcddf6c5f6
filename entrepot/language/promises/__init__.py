"""What authors promise of tables: what a contract may say, and data products."""
