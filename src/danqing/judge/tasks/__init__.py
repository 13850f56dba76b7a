"""What can be asked, each task a function that deals the scenes before, the scene after and the words between."""
