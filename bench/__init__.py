"""Benchmarks, and what they run against. Ratios and tables go to docs/benchmarks.md.

llm          the language model beside transformers and vLLM
kernels      two builds of the native kernels
encode       the vision tower beside transformers and vLLM
grammar      what holding replies to a schema costs
store        the embedding store
gateway      the gateway alone, in front of services that take a fixed time
fixed_delay  those services
faults       each process killed, stopped or cut off under load
soak         vision replicas while Redis fails
cluster      seven processes on this machine that may die and return
hanging_llm  the LLM service with a model that can be made to hang
load         chats under way while something dies
machine      limits of this machine, and whether others use it
checkpoint   random checkpoints of the family's shapes
"""
