"""ftransfer completion."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the TAB completion script for SHELL.

    bash: ftransfer completion bash > ~/.local/share/bash-completion/completions/ftransfer

    zsh: ftransfer completion zsh > ~/.zfunc/_ftransfer, with fpath+=~/.zfunc before compinit in ~/.zshrc

    fish: ftransfer completion fish > ~/.config/fish/completions/ftransfer.fish

    Create the folder first (mkdir -p), and open a new shell afterwards. For the current shell only (bash, zsh):
    eval "$(ftransfer completion bash)".
    """
    from ftransfer.cli import main

    kind = get_completion_class(shell)
    assert kind is not None  # click.Choice has seen to that
    script = kind(main, {}, "ftransfer", "_FTRANSFER_COMPLETE")
    click.echo(script.source_template % script.source_vars(), nl=False)
