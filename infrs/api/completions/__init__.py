"""`/v1/completions`: requests and the presenter of answers."""
