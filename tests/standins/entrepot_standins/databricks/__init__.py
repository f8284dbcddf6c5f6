"""The stand-in for Databricks: its SQL warehouses' protocol in front of a local Spark with Iceberg tables."""
