"""HDLC data link layer of DLMS over serial lines (IEC 62056-46)."""
