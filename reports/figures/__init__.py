"""Figures for a paper: readable in grey, at column width, and by colour-blind readers."""
