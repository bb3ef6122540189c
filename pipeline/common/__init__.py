"""What every room may use: errors, secrets, timing, files, the machine and the terminal."""
