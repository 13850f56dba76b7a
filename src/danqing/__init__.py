"""Danqing: a self-hosted image generation and editing service that speaks DashScope.

The package root holds nothing but the version; `app.py` wires the rooms and `cli` is the door.
"""

__version__ = "0.1.0"
