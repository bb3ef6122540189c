"""What is said before and after training: the data, the winner, groups, the report."""
