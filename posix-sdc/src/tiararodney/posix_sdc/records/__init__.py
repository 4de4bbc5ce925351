"""Scenarios and trajectories as records: read, checked, stored, exported, counted, shown."""
