"""The report of a run: one HTML page, made from the files in the run's directory.

This room reads files and never live objects, so a report can be made anywhere and again at any time.
"""

from server.report.report import write_report
from server.report.run_files import RunFiles, load_run

__all__ = ["RunFiles", "load_run", "write_report"]
