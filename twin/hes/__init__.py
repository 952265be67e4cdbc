"""The mock head-end system."""
