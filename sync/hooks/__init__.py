"""Listeners to a running pass: the log, the metrics, the progress bar."""
