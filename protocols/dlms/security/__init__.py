"""Cryptographic protection of xDLMS APDUs: suites, keys, counters, certificates."""
