"""Lets the tests of this folder import what they share (see `plain_folder`)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
