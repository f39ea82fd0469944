"""How fresh a copy is, and the alerts when it is not."""
