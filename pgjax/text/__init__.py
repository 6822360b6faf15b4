"""The tokenizer, the text arrays of the model, and boxes written as text; none of it needs jax."""
