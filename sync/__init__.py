"""Keeps a SQL copy of an Adobe Commerce (Magento) catalogue complete and fresh."""

__version__ = "0.1.0"
