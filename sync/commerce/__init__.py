"""The tenant's side: the only package that sends HTTP requests to Commerce."""
