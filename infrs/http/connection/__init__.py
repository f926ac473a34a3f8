"""One connection to a client: its protocol, its limits, its pings, and its end if the client reads nothing."""
