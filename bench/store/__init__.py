"""Files on disk: records of runs, leases on them, and the cache."""
