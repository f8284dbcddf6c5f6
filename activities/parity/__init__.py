"""The same table on several warehouses, compared."""
