"""ftransfer completion."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes ftransfer's commands by TAB in SHELL.

    bash: ftransfer completion bash > ~/.local/share/bash-completion/completions/ftransfer

    zsh: ftransfer completion zsh > ~/.zfunc/_ftransfer, with fpath+=~/.zfunc before compinit in ~/.zshrc

    fish: ftransfer completion fish > ~/.config/fish/completions/ftransfer.fish

    Make the folder first (mkdir -p), and open a new shell after. In bash and zsh, for the shell that is open alone:
    eval "$(ftransfer completion bash)".
    """
    from ftransfer.cli import main

    kind = get_completion_class(shell)
    assert kind is not None  # click.Choice has seen to that
    script = kind(main, {}, "ftransfer", "_FTRANSFER_COMPLETE")
    click.echo(script.source_template % script.source_vars(), nl=False)
