"""How far apart domains are, and which backbone suits the labels."""
