"""The report: one page, its figures, and what it says."""
