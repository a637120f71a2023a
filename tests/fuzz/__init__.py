"""Random inputs for everything that reads: files mutated under coverage, and nets drawn from a grammar.

``python -m fuzz`` (``make fuzz SECONDS=600``) runs the targets for a time; ``test_fuzz.py`` a fixed number of inputs of
each. Any bytes may give a value or the package's own error in one line; another exception, a hang or much memory is a
finding, whose input is kept.
"""
