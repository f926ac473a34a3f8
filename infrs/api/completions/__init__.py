"""`/v1/completions`: requests, their preparation, and the presenter."""
