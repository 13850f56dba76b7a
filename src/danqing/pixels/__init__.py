"""Image rules that need no model: files to pixels and back. Knows no protocol, no job and no network."""
