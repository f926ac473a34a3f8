"""`/tokenize`, `/detokenize` and `/apply-template`: requests and results."""
