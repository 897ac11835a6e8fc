"""What is trained: the model interface, the trainer, and one file per model."""
