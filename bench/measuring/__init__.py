"""What ``bench.speed`` times: the textbook loop, the products alone, training and scoring."""
