"""Prompts to token ids, one step at a time: step 9 of the data's path. Independent of gRPC.

interface   what the rest of the service knows of an engine
grammar     which tokens a reply that is held to a grammar may continue with
rows        visual rows that an engine asks for
choose      the engine that the settings name
pytorch     the engine of this repository
vllm        vLLM as the engine
"""
