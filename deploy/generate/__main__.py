"""Writes all generated files: python -m deploy.generate, or make schemas."""

from deploy.generate.files import write

if __name__ == "__main__":
    write()
