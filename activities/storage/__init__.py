"""The lake: files of loads, models and pages."""
