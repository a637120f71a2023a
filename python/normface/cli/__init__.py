"""The subcommands of ``normface``: arguments in, the library called, results printed. No work is done here."""
