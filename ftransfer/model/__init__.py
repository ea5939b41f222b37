"""The one file that a user takes along, and what it says of new images."""
