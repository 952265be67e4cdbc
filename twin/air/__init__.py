"""The radio medium and the MAC of every node beside it."""
