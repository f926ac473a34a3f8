"""`/v1/chat/completions`: requests, prompts, their preparation, and the presenter."""
