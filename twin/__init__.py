"""Puts the parts together: air, backhaul, head-end, rigs, scenarios, conformance, commands."""
