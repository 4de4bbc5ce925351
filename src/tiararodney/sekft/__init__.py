"""Fine-tune small open chat models to operate a POSIX shell as a self-directed citizen."""
