"""The status page and the health routes, served by the daemon."""
