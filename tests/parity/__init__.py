"""Reference outputs of the original implementations, and the recipe that makes their weights and images."""
