"""A net as a torch module, and files for torch."""
