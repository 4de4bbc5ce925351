"""`sekft-train --inspect`: what would be trained, seen without torch; and whether a live endpoint serves the same."""
