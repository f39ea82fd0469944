"""The daemon: its schedule, the fair queue of tenants, systemd, Celery workers."""
