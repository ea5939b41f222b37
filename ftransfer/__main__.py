"""``python -m ftransfer``."""

from ftransfer.cli import main

if __name__ == "__main__":  # the processes of a local cluster import it, too
    main(prog_name="ftransfer")
