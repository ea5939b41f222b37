"""``python -m ftransfer``."""

from ftransfer.cli import main

main(prog_name="ftransfer")
