"""Vision replicas under load while Redis fails in every way: `python -m bench.soak`.

run       the load, the faults and the figures
readers   requests that compare each row with the model's own
replicas  vision processes that can be killed and return
chaos     one fault after the other
"""
