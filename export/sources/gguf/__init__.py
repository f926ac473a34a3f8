"""Read GGUF files: configuration, weights, tokenizer."""
