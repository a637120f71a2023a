"""A net as layers joined by values: built from a text, with shapes, weights and names. Knows no backend."""
