"""Tables as plain values, and as markdown, LaTeX, CSV and plain text."""
