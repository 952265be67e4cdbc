"""Scenarios as data, and the steps that they name."""
