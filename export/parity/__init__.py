"""Compare a bundle's outputs with the source model's before it is published."""
