"""Confirms attempts whose answer was lost: looks for their pins at Pinterest."""
