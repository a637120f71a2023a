"""Put the face layers into a Caffe tree, or take them out again; see README.md beside this file.

python caffe_layers/transplant.py CAFFE_ROOT [--dry-run | --revert] [--replace TYPE] [--without TYPE] [--no-tests]
"""

import sys

if sys.version_info < (3, 6):  # noqa: UP036 (this file is read by any Python)
    sys.stderr.write("transplant.py: error: expected Python 3.6 or newer, got %d.%d\n" % sys.version_info[:2])  # noqa: UP031
    sys.exit(2)

sys.dont_write_bytecode = True  # leave no trace in the repository of the layers

from transplanting.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
