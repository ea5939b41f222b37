"""From images through a backbone to a feature set."""
