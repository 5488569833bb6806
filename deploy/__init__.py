"""How the services are run: images, charts, and the one-machine launcher.

cli     commands that the services add to `internvl`
local   everything on one machine, and the demo model
sizing  how many pods, GPUs and Redis shards a load takes
helm    the chart
"""
