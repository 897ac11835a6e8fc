"""How it is measured: data, scores, jobs, records and the command line."""
