"""Where runs are computed: one worker loop, and where workers are started."""
