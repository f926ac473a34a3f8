"""`/v1/chat/completions`: requests, messages and the presenter of answers."""
