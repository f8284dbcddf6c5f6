"""What all warehouses have in common: their SQL, and what it means."""
