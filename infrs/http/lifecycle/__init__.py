"""Start, signals, watchdog and drain."""
