"""Schedules of tenants, as Temporal has them."""
