"""The way to the server: what a URL means, the clients for it, and calls that end."""
