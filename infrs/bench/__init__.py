"""`infrs-bench`: a load client for OpenAI-compatible servers."""
