"""What stops a transplant."""


class Refused(Exception):
    """One line for the user: what was found, in which file, and the way out. The tree is as it was."""
