"""Access log, request metrics, log formats and traces."""
