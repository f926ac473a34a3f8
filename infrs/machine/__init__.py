"""What this process may use: CPUs and memory, within control groups and limits."""
