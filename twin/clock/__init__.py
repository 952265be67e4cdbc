"""One event loop, two clocks."""
