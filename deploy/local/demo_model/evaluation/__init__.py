"""How often the demo model is right on pictures and wordings it never saw.

rows        what is asked in each row of the table
measure     asks it, and writes down how often it is right
report      the table, the plot, and pictures of failures
curves      every loss of a run, plotted
"""
