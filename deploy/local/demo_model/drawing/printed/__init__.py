"""Printed words and numbers.

words       words that are printed, some held out
fonts       fonts they are printed in, some held out
sheets      up to three printed lines on paper, drawn by lot, and their pixels
"""
