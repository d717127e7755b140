"""HTTP models. They have the fields of the models in pinbridge-sdk 1.10.1."""
