"""JSON messages and topics between DCU and head-end, with their schemas."""
