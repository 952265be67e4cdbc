"""A low-voltage feeder: transformer, cables, homes and solar plants, and the voltage at every meter."""
