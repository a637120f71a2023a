"""Source people can read: a net as one file of PyTorch, and its weights beside it."""
