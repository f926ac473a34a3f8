"""`infrs-bench engine`: a profile of a bundle's decode step."""
