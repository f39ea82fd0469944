"""The copy as files."""
