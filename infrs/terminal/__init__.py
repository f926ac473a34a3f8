"""The command `infrs`: chat, cached models, pull, and a check of the machine."""
