"""Who listens to a pass at work: the log, the metrics, the progress bar."""
