"""Training: one loop (loop.py) for every network of the project, on accelerate."""
