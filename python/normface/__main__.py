"""The command ``normface``, and ``python -m normface``."""

import sys


def main() -> int:
    """Run the command; Ctrl-C while it is still being loaded ends it in a line too."""
    try:
        from .cli.main import main as command

        return command()
    except KeyboardInterrupt:
        sys.stderr.write("normface: error: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
