"""The routes of models that read texts and write none: embeddings, scores and classes."""
