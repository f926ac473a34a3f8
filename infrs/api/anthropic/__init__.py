"""`/v1/messages`: Anthropic's requests, converted to chat completions, and its answers."""
