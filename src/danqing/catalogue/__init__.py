"""API models as data: one TOML table a model, read once at the start. Knows no protocol and no checkpoint."""
