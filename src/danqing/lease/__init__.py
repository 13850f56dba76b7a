"""The only way a worker touches a job: six verbs with a fencing token, over a private Unix socket."""
