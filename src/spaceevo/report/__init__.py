"""The report: one self-contained HTML page and PNG figures of what a run folder holds."""
