"""The command `twin`, a module a verb."""
