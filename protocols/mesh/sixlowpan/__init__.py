"""6LoWPAN: header compression (RFC 6282), fragmentation (RFC 4944), and the adapter that a node talks to."""
