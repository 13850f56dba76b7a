"""Who is next and what it costs. Standard library only: server, worker and simulator share it."""
