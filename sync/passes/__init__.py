"""What is read, in which order, and what having read it proves."""
