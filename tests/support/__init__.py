"""What several suites build or drive: tiny checkpoints, fakes, servers."""
