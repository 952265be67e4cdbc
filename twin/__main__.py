"""`python -m twin`, the same as the command `twin`."""

from twin.commands.main import main

main()
