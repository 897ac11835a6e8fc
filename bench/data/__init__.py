"""The images that models are trained on and scored against, in fixed splits."""
