"""`/v1/files` and `/v1/batches`: handlers, the reader of uploads, and requests that no client sends."""
