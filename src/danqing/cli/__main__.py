"""`python -m danqing.cli`, the same as `danqing`."""

from danqing.cli.main import run

run()
