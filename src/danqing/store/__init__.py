"""Jobs, leases, charges, keys and the outbox in a database. The only room that knows SQL."""
