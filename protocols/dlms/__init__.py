"""DLMS/COSEM: A-XDR, application PDUs, security, associations, transports."""
