"""The process: command line, settings, tenants, schedules."""
