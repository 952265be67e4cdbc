"""How a device proves by its certificate that it may join, and gets the group keys: EAPOL, EAP-TLS, 4-way handshake."""
