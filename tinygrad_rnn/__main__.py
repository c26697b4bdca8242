"""`python -m tinygrad_rnn`: the command line."""

import sys


def main() -> int:
    """Run a command and return its exit code; Ctrl-C while the command line is imported ends it as it does later."""
    try:
        from .cli import main as run

        return run()
    except KeyboardInterrupt:
        print("tinygrad-rnn: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
