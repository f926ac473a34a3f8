"""Load, signals, watchdog and drain."""
