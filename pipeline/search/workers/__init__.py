"""Who runs the trials: workers, how many, and in which processes."""
