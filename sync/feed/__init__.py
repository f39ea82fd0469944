"""The change feed onward: followed from a position, printed or posted to a webhook."""
