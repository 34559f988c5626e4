"""How much memory a model takes when it is served: weights, KV cache, what fits. Pure arithmetic over config.json and numbers.

`architecture` reads a config.json, `layout` the tensors it implies, `quantization` their precision, `sharding` what one GPU
holds, `cache` the KV cache as the engines allocate it, `overhead` the rest, and `plan` joins them. What is not modelled
(`refusals`) is None with the reason, never a number.
"""
