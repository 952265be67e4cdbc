"""The protection bench: shots at the leakage detector and its relay, judged and reported."""
