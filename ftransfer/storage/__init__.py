"""Where bytes lie, and how they are written whole or not at all."""
