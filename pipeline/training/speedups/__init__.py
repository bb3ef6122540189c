"""What makes training faster and leaves its results as they are."""
