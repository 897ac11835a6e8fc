"""Training: one iteration, the loop around it, optimizers, and random streams."""
