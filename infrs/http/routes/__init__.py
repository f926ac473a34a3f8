"""One handler for each route, and the route table."""
