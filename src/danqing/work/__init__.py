"""A worker: claim, prepare, run, finish. And the supervisor that starts workers and watches them."""
