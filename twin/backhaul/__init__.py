"""Links between DCU and head-end."""
