"""Measurements, one script a question. Each prints a table for people and ends with one JSON line."""
