"""The command line as its user meets it."""

from tinygrad_rnn.cli import main


def refused(capsys, *arguments):
    """Return what a command says that is refused: one line, nothing on standard output, exit status 2."""
    capsys.readouterr()
    try:
        code = main([*arguments])
    except SystemExit as exit:
        code = exit.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.startswith("tinygrad-rnn: error: ")
    assert captured.err.count("\n") == 1
    return captured.err
