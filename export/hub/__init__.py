"""Download from the Hub, within limits and with every file checked."""
