"""Parts of infrs alone: decode steps, sampling, masks, HTTP, fairness, the exporter's memory."""
