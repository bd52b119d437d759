"""What a sweep runs, where it runs, and what is kept of it."""
