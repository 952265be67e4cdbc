"""Wire formats and state machines. Bytes and `now` go in, bytes come out: no I/O, clock or randomness of its own."""
