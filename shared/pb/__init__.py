"""Stubs of the contracts in protos/, committed; made by `python -m shared.pb.generate`, never edited by hand."""
