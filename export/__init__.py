"""infrs-export: a Hugging Face model becomes a verified bundle (import name `infrs_export`)."""
