"""Ways in for processes and firmware from outside: RCP over UDP, and ZEP."""
