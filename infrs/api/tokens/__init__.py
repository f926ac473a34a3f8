"""`/tokenize`, `/detokenize` and `/apply-template`: requests."""
