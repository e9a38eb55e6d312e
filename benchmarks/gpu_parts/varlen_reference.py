"""Torch's attention for variable lengths in plain operations, for machines where torch has no kernel of it.

It stands in for the kernel in tests and dry runs: it shows that the layout of shared prompts is right, and nothing of
the kernel. Signature and conventions are those of ``torch.nn.attention.varlen.varlen_attn`` in torch 2.13: sequences
are aligned at their ends, and a window does not count the query itself.
"""

from collections.abc import Callable
from typing import Any

import torch


def varlen_attn(  # noqa: PLR0917 - torch's signature
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor | None,
    max_q: int,
    max_k: int,
    *,
    return_aux: Any = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    num_splits: int | None = None,
) -> torch.Tensor:
    """Attend sequence by sequence under an explicit mask.

    Args:
        query: ``[queries of all sequences, heads, D]``.
        key: ``[keys of all sequences, key heads, D]``.
        value: as ``key``.
        cu_seq_q: first query of each sequence, and the end of the last; int32.
        cu_seq_k: the same of the keys.
        max_q: queries of the longest sequence.
        max_k: keys of the longest sequence.
        return_aux: not supported, as everything for inference.
        scale: of the scores; None for D to the power of -1/2.
        window_size: keys to the left and to the right that a query sees besides its own place; -1 for all.
        enable_gqa: whether there may be fewer key heads than heads.
        seqused_k: not supported.
        block_table: not supported.
        num_splits: not supported.

    Raises:
        ValueError: shapes, types or arguments that the kernel would refuse, or read beyond its memory with.
    """
    if any(one is not None for one in (return_aux, seqused_k, block_table, num_splits)):
        raise ValueError("return_aux, seqused_k, block_table and num_splits are not supported here")
    if cu_seq_k is None or cu_seq_q.dtype != torch.int32 or cu_seq_k.dtype != torch.int32:
        raise ValueError("the sequences' starts must be int32")
    if query.shape[1] != key.shape[1] and not enable_gqa:
        raise ValueError("Expect query and key/value to have the same number of heads")
    queries, keys = (starts.diff().tolist() for starts in (cu_seq_q, cu_seq_k))
    if (sum(queries), sum(keys)) != (len(query), len(key)) or (max(queries), max(keys)) != (max_q, max_k):
        raise ValueError("the sequences' lengths are not those of the tensors")
    outputs = []
    parts = zip(query.split(queries), key.split(keys), value.split(keys), strict=True)
    for one_query, one_key, one_value in parts:
        places = torch.arange(len(one_query), device=query.device)[:, None] + len(one_key) - len(one_query)
        others = torch.arange(len(one_key), device=query.device)
        left, right = (len(key) if size < 0 else size for size in window_size)
        seen = (others >= places - left) & (others <= places + right)
        heads_first = [tensor.transpose(0, 1)[None] for tensor in (one_query, one_key, one_value)]
        attended = torch.nn.functional.scaled_dot_product_attention(
            *heads_first, attn_mask=seen, scale=scale, enable_gqa=enable_gqa
        )
        outputs.append(attended[0].transpose(0, 1))
    return torch.cat(outputs)


def stand_in(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Put the reference in the place of torch's own function.

    Args:
        replace: sets an attribute of an object, such as pytest's ``monkeypatch.setattr``.
    """
    from torch.nn.attention import varlen

    replace(varlen, "varlen_attn", varlen_attn)
