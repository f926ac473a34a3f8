"""Export Hugging Face models as verified bundles (import name `infrs_export`)."""
