"""The demo's campaign: 500 rows as a marketing team's spreadsheet has them, with a few mistakes."""
