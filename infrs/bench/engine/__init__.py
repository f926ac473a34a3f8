"""Where a step's time goes, and how far it is from what the machine allows."""
