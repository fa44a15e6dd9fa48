"""What is carried over from one search to the next."""
