"""Which checkpoint and preset stands behind each API name on this installation. Data and its loader."""
