"""Choose tokens: logit edits, filters, the sampler, grammars and JSON schemas."""
