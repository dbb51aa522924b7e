"""A run as one page that opens in a browser, offline: plots, filters, a table.

Imported by report; imports training, records, values. The words on it are report's.
"""
