"""Caffe's solvers in PyTorch: a ``solver.prototxt`` as it stands, with Caffe's arithmetic.

fields.py       a solver's settings, by Caffe's names
parameters.py   the solver's text: reading and checking it
policies.py     the learning rate of an iteration
updates.py      what a gradient does to the weights: one function a solver type
nets.py         the nets that the solver names, with their weights
solver.py       Solver: an iteration, the snapshots
batches.py      what step() is given, as tensors
precision.py    devices, mixed precision
randomness.py   dropout's numbers
running.py      what layers count and keep in no blob
content.py      what a snapshot holds
state.py        the .solverstate file, Caffe's own with what else a run has to know
hdf5_state.py   the same as .solverstate.h5
debug.py        the lines of debug_info
training.py     the whole run from the data layers: tests, snapshots, with display.py, glog.py and log.py
"""

from .solver import Solver

__all__ = ["Solver"]
