"""Multicast in the mesh by MPL (RFC 7731)."""
