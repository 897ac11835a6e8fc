"""A model for gan-bench from outside."""
