"""Distributed energy resources: inverters after IEEE 1547-2018, table-driven and per unit, with a SunSpec interface."""
