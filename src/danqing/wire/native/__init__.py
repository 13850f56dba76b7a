"""Our own endpoints: result links, health and metrics."""
