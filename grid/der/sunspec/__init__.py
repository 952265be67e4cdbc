"""SunSpec information models 1 and 701 to 714 over Modbus TCP."""
