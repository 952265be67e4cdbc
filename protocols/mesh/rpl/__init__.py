"""RPL, non-storing mode (RFC 6550): messages, source routes, objective function, router and root."""
