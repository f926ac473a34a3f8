"""What a hostile `tokenizer.json` may not do: multiply texts, or take long for one."""
