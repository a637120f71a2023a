"""How far a coarser number format may move a file's numbers: bounds derived from the roundings themselves."""
