"""Shows how many pins wait for their delivery to Pinterest, and when it ends."""
