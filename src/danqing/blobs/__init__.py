"""Bytes under keys, and links to them that expire."""
