"""Models that read texts and write none: embedding models and classifiers, and the thread that runs them."""
