"""The claims of the slides as experiments: ``python -m experiments NAME`` measures one, draws it, and says if it holds.

    options = Options(out=Path("out"), seed=0)
    result = run("bound", options)      # also writes out/bound/: figures, results.json, claim.md

One module an experiment, with ``run(options) -> Result``; ``registry`` lists them in the slides' order.
"""

from .registry import EXPERIMENTS, run
from .result import Figure, Options, Result

__all__ = ["EXPERIMENTS", "Figure", "Options", "Result", "run"]
