"""Text in and out: tokenizer, detokenizer, stop strings, reasoning blocks."""
