"""The tenant's side: everything that speaks HTTP, and nothing else does."""
