"""How a model is trained: one iteration, the loop around it, and its random streams."""
