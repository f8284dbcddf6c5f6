"""What releases have left in a warehouse and a lake: kept, and read by every later version."""
