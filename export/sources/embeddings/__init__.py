"""Read how an embedding model turns token vectors into the vector of a text."""
