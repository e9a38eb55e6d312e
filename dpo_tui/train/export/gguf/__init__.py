"""GGUF, the format of llama.cpp and Ollama: one file with weights, tokenizer, chat template and settings.

:mod:`gguf_export` makes the file of a merged model: by llama.cpp's own converter (:mod:`llama_cpp`) where it is
installed, and else by :mod:`gguf_file`, which knows the models of :mod:`gguf_families` and the tokenizers of
:mod:`gguf_tokenizer`. :mod:`gguf_check` compares what was written with the model.
"""
