"""The Wi-SUN-like mesh: 802.15.4, link security, MAC, 6LoWPAN, IPv6, RPL."""
