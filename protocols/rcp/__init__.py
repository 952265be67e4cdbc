"""Serial protocol between a host and its radio co-processor."""
