"""The commands: entry points, flags, the choice of a model, a missing export."""
