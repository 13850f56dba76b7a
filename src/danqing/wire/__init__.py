"""Foreign protocols at the door: one folder a dialect, and the HTTP plumbing they share."""
