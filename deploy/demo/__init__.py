"""The demo's campaign: 500 rows like those of a marketing team's spreadsheet, with ten mistakes."""
