"""The only way a worker touches a job: five verbs with a fencing token, over a private Unix socket."""
