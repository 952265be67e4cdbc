"""Two runs of one scenario side by side: what came out the same, and by how much the times differ."""
