"""Transcripts: what goes over the wire, as text a person can read."""
