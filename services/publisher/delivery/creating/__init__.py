"""Creates the next pin of an account at Pinterest."""
