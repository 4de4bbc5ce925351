"""Play models in fresh worlds and say, with intervals, what they can do."""
