"""Adobe I/O Events: which products to look at, seconds after they changed."""
