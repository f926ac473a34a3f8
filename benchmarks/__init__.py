"""Scripts that measure infrs. Run one from the repository root: `python -m benchmarks.<folder>.<script> --help`."""
