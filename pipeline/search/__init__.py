"""A search is a loop around a task function: config in, score out."""
