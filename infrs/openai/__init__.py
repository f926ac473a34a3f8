"""The OpenAI wire: requests, responses, server-sent events, errors."""
