"""All that moves: the flow of a still picture (s5) and the frames made from it (s6)."""
