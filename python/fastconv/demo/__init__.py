"""The main job: train the network of the lecture, recognise, and show what it has learned. Nothing here prints."""
