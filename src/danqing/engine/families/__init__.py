"""One file a model family: its stages as functions of the modules of a checkpoint."""
