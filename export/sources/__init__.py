"""Find a model, check its configuration and weights, load it into PyTorch."""
