"""Worlds as sandboxes: bubblewrap over one sized tmpfs."""
