"""Requirement catalogue, cases, verdicts, report."""
