"""Labelled images: where they come from, how they are preprocessed and batched.

Importing the package registers the kinds of source it has.
"""

from quant.data import csv_source, digits_source, folder_source, npz_source

__all__ = ["csv_source", "digits_source", "folder_source", "npz_source"]
