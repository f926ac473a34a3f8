"""`/v1/messages`: Anthropic's requests, their conversion to neutral form, and the presenter."""
