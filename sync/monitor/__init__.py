"""Whether a copy is fresh, and who is told when it is not."""
