"""Keep a base model loaded; train, evaluate and hang adapters on it and off again, job after job."""
