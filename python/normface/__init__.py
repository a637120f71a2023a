"""Face recognition with normalised losses, on top of caffeport."""

__version__ = "0.1.0"
