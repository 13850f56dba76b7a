"""The nouns and the rules. Standard library only: no clock, no I/O, no torch, no HTTP."""
