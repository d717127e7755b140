"""A model of Pinterest, and stores of attempts, for tests of the delivery."""
