"""`/v1/rerank`, `/v1/score` and `/classify`: requests and answers."""
