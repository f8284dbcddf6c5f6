"""Whatever dlt takes, as a source."""
