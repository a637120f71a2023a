"""The command normface in this process, its words and its end."""

from __future__ import annotations

from normface.cli.main import main


def said(capsys, *arguments) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    try:
        code = main([*map(str, arguments)])
    except SystemExit as stopped:
        code = stopped.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def refused(capsys, *arguments) -> str:
    """Return the one line of error, exit code 2."""
    code, out, error = said(capsys, *arguments)
    assert (code, out) == (2, "")
    assert error.startswith("normface: error: ")
    assert error.count("\n") == 1
    return error
