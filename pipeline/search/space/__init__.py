"""What is searched: parameters, when they are there, and spaces by name."""
