"""Images in: found, listed, read and decoded. Nothing here imports torch."""
