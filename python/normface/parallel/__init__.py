"""Class-parallel heads: the class weights of a loss sharded over the ranks of torch.distributed.

    head = normface.parallel.make("arcface", 10_000_000, 512)   # of which this rank holds its share of the rows
    loss = head(backbone(images), labels)                       # of all ranks' samples, alike on every rank
    loss.backward()

Each rank gives the samples it has, of any classes; the embeddings are gathered once. Values and gradients are those of
one process with the whole batch and all class weights.
"""

from .checkpoint import latest, load, save
from .head import ClassParallel, make
from .row_sgd import RowSGD

__all__ = ["ClassParallel", "RowSGD", "latest", "load", "make", "save"]
