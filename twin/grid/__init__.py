"""The grid of a run: the feeder joined to the meters, its verbs, its plots."""
