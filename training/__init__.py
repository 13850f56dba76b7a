"""Makes the miniature: a small checkpoint in the Qwen-Image-2.1 layout, trained on the judge's scenes. Not shipped."""
