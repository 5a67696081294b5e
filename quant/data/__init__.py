"""Labelled images and other samples: where they come from, how they are preprocessed and batched.

Importing the package registers the kinds of source it has.
"""

from quant.data import arrays_source, cifar_source, csv_source, digits_source, folder_source, npz_source

__all__ = ["arrays_source", "cifar_source", "csv_source", "digits_source", "folder_source", "npz_source"]
