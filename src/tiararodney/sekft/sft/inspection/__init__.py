"""`sekft-train --inspect`: what would be trained, seen without torch; and whether a live endpoint serves the same.

survey -> findings -> text | page          served (over routes): the same sessions, asked of an endpoint
"""
