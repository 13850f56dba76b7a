"""Who asks, may they, does the model take it, is there room: the one way from an order to a stored job."""
