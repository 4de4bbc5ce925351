"""Invented programs that hand directives out, and their documentation."""
