"""A net, and its proof, as one page that a browser opens from disk: ``document.write`` and ``drawing.svg``."""
