"""A look at rows before they are trained on: labels, duplicates, lengths, personal data and languages.

It changes nothing. Its result holds counts and row numbers and no text, and stays inside the institution all the same.

>>> from common.data.datasets import Dataset
>>> from client.inspection import inspect_rows
>>> rows = Dataset.of(["Profit rose.", "Sales fell.", "Profit rose."], ["up", "down", "up"])
>>> inspect_rows({"train": rows}).splits["train"].duplicates
(3,)
"""

from client.inspection.inspection import Inspection, SplitInspection, inspect_rows

__all__ = ["Inspection", "SplitInspection", "inspect_rows"]
