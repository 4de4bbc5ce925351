"""InterCode-ALFA as worlds: the 300 tasks of the package `icalfa`, read from where it is installed.

    package    its tasks and its file systems
    standup    a file system's set-up script, run in a world, as fixtures
    outcome    what a gold command prints and changes
    bundle     a task as a scenario, plain or behind a provider
    reasons    why a task is left out
    run        the whole import

Nothing of the package's text is in this repository.
"""
