"""Places where sessions are played: the World protocol and its two runtimes."""
