"""Makes pictures, one denoising step at a time. Knows no protocol, no store and no network."""
