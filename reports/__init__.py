"""What it means: statistics, tables, plots and a page from the run folders."""
