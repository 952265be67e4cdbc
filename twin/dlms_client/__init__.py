"""A DLMS/COSEM client for people: one association with one meter, and its answers as text and tables."""
