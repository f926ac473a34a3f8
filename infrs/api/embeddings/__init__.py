"""`/v1/embeddings`: requests and answers."""
