"""The command ``caffeport``."""
