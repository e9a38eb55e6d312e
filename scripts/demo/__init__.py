"""What `scripts/build_demo.py` is made of: the text grammar, the tokenizer and the training of the toy model."""
