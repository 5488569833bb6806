"""Files to tiles in processes of their own: steps 2 and 3 of the data's path.

A decoder is a great deal of C that reads files from outside. Here it can crash, hang or eat memory, and one request
hears of it. Between the processes travel lines of JSON over pipes, and bytes in a file in memory; nothing is pickled.

job.py       what is to be done with a file, as both sides write and read it
worker.py    the process that does it, confined; started light, without torch
process.py   the service's handle of one such process
pool.py      a fixed number of them, replaced when they die
"""
