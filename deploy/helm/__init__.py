"""The chart, and the program that writes its schema.

schema  values.schema.json from the settings classes
"""
