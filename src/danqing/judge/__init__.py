"""Draws the worlds the miniature lives in and decides who is right. Knows no model, no file and no network."""
