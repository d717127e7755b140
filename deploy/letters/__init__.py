"""Dead letters for operators: found, explained, and replayed without losing or doubling one."""
