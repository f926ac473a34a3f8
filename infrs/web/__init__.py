"""The web page: the static files that a browser loads, with no server code in them."""
