"""Settings of all tests."""

from hypothesis import settings

# How long an example takes says how loaded the machine is, and nothing about the code.
settings.register_profile("repeatable", deadline=None)
settings.load_profile("repeatable")
