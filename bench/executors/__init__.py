"""Where jobs run: each executor takes the same tasks, and run folders are the only truth."""
