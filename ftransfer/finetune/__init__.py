"""Train a backbone further, from parts of another, or with a teacher."""
