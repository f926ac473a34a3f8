"""Batches of requests in files: the form of their lines, the stored files, and the batches of `/v1/batches`."""
