"""One file a port, run against every implementation of it."""
